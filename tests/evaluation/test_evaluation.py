"""evaluate() with a toy method that segments by colour, so that every score is known."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from unscene import metrics
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.evaluation import Evaluation, evaluate
from unscene.models.base import Losses, SceneModel
from unscene.scenes import Decomposition

COLOURS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


class ColourPatches(SceneDataset):
    """Random label maps (6, 5), painted in the colours of their ids; scene 3 is background only."""

    def __init__(self, num_scenes=7, with_mask=True):
        self.mask = torch.randint(0, 4, (num_scenes, 6, 5), generator=torch.Generator().manual_seed(0))
        self.mask[3] = 0
        self.with_mask = with_mask

    def __len__(self):
        return len(self.mask)

    def batch(self, indices):
        mask = self.mask[list(indices)]
        image = COLOURS[mask].movedim(-1, -3)
        return {"image": image, "mask": mask} if self.with_mask else {"image": image}


class ColourThresholds(SceneModel):
    """A slot per colour, with noise on the components and on the choice of slot."""

    def __init__(self, noise=0.0, num_slots=4):
        super().__init__()
        self.noise, self.num_slots = noise, num_slots
        self.colours = nn.Parameter(COLOURS)

    def decompose(self, image, *, num_slots=None, iterations=1):
        assert not self.training
        K = num_slots or self.num_slots
        colours = self.colours.detach()[:K, :, None, None].expand(len(image), -1, -1, *image.shape[-2:])
        distance = (image[:, None] - colours).square().sum(2)
        distance = distance + self.noise * torch.randn(distance.shape) / iterations
        masks = nn.functional.one_hot(distance.argmin(1), K).movedim(-1, 1).float()
        slots = torch.full((len(image), K, 2), 0.5)
        return Decomposition(masks, colours, slots, slot_scale=torch.ones_like(slots))

    def loss(self, batch, step):
        return Losses(self.colours.sum(), {})


class WithoutIterations(ColourThresholds):
    def decompose(self, image, *, num_slots=None):
        decomposition = super().decompose(image, num_slots=num_slots)
        return Decomposition(decomposition.masks, decomposition.components, decomposition.slots)


def test_a_perfect_model():
    evaluation = evaluate(ColourThresholds(), ColourPatches(), batch_size=3)
    summary = evaluation.summary()
    for name in ("ari", "miou"):
        assert summary[name] == {"mean": 1.0, "std": 0.0, "n": 7}
    for name in ("fg_ari", "miou_fg", "covering"):  # undefined where there is no foreground
        assert summary[name] == {"mean": 1.0, "std": 0.0, "n": 6}
        assert np.isnan(evaluation.values[name][3])
    assert summary["mse"] == {"mean": 0.0, "std": 0.0, "n": 7}
    assert summary["kl"] == {"mean": 4 * 2 * 0.5 * 0.5**2, "std": 0.0, "n": 7}


def test_values_are_those_of_the_metrics_in_the_order_of_the_dataset():
    dataset, model = ColourPatches(), ColourThresholds()
    evaluation = evaluate(model, dataset, num_slots=3, batch_size=2)
    scenes = dataset.batch(range(7))
    with torch.no_grad():
        decomposition = model.eval().decompose(scenes["image"], num_slots=3)
    assert evaluation.meta["num_slots"] == 3
    for name, expected in {
        "fg_ari": metrics.fg_ari(scenes["mask"], decomposition.segmentation),
        "miou_fg": metrics.miou(scenes["mask"], decomposition.segmentation, background=False),
        "mse": metrics.mse(scenes["image"], decomposition.reconstruction),
    }.items():
        assert evaluation.values[name].dtype == np.float64
        np.testing.assert_array_equal(evaluation.values[name], expected.numpy())
    assert evaluation.summary()["mse"]["std"] == pytest.approx(evaluation.values["mse"].std())


def test_results_depend_on_the_seed_and_on_nothing_else():
    model, dataset = ColourThresholds(noise=1.0), ColourPatches()
    first = evaluate(model, dataset, batch_size=2).values["ari"]
    state = torch.get_rng_state()
    torch.rand(3)
    again = evaluate(model, dataset, batch_size=2, limit=5).values["ari"]
    np.testing.assert_array_equal(first[:4], again[:4])  # the last batch differs in size
    assert not np.array_equal(first, evaluate(model, dataset, batch_size=2, seed=1).values["ari"])
    torch.set_rng_state(state)
    evaluate(model, dataset, limit=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_iterations_reach_the_model():
    model, dataset = ColourThresholds(noise=0.5), ColourPatches()
    rough, fine = (evaluate(model, dataset, iterations=t).summary()["ari"]["mean"] for t in (1, 1000))
    assert rough < fine == 1


def test_the_model_keeps_its_mode():
    model = ColourThresholds().train()
    evaluate(model, ColourPatches())
    assert model.training


def test_without_masks_or_posterior_only_the_reconstruction_is_scored():
    evaluation = evaluate(WithoutIterations(), ColourPatches(with_mask=False))
    assert list(evaluation.values) == ["mse", "mse_rgb", "similarity", "similarity_abs"]
    assert evaluation.table().endswith("The dataset has no masks, so the segmentation could not be scored.")


def test_plain_list_of_scenes_and_progress():
    dataset, seen = ColourPatches(), []
    evaluation = evaluate(
        ColourThresholds(),
        list(dataset),
        limit=5,
        batch_size=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert evaluation.meta["n"] == len(evaluation.values["ari"]) == 5


def test_mixed_precision_autocasts():
    class Autocasting(ColourThresholds):
        def decompose(self, image, *, num_slots=None):
            assert torch.is_autocast_enabled("cpu")
            return super().decompose(image, num_slots=num_slots)

    assert evaluate(Autocasting(), ColourPatches(), precision="bf16-mixed").meta["precision"] == "bf16-mixed"


def test_table():
    values = {"fg_ari": np.array([0.5, 1.0, np.nan, np.inf]), "mse": np.full(4, np.nan)}
    assert Evaluation(values, {}).table().splitlines() == [
        "metric  mean   std  n",
        "fg_ari  0.75  0.25  2",
        "mse        -     -  0",
    ]


def test_saved_json(tmp_path):
    evaluate(ColourThresholds(), ColourPatches(), limit=4, seed=5).save(tmp_path / "evaluation.json")
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["metrics"]["fg_ari"] == {"mean": 1.0, "std": 0.0, "n": 3}
    assert (
        result["meta"].items() >= {"model": "ColourThresholds", "dataset": "ColourPatches", "seed": 5, "n": 4}.items()
    )


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            WithoutIterations(),
            {"iterations": 3},
            "WithoutIterations does not refine in iterations; leave iterations out",
        ),
        (ColourThresholds(), {"limit": 0}, "nothing to evaluate: the dataset has 7 scenes, limit is 0"),
        (ColourThresholds(), {"batch_size": 0}, "batch_size 0"),
        (ColourThresholds(), {"seed": -1}, "seed is -1; it must not be negative"),
        (ColourThresholds(), {"device": "foo"}, "device 'foo' cannot be used here .*; leave it out, or name cpu"),
        (ColourThresholds(), {"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        (ColourThresholds(), {"precision": "16"}, "precision '16' is not one of 32-true, bf16-mixed"),
    ],
)
def test_bad_input(model, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, ColourPatches(), **options)
