"""Scores that only one method has: how they reach an evaluation, and those of R-NEM and N-EM against numpy."""

import numpy as np
import pytest
import torch

from toy_scenes import ToyModel, ToyScenes, ToyVideoModel, ToyVideos
from unscene import NEM, RNEM, metrics
from unscene.data import BouncingBalls, Shapes
from unscene.evaluation import evaluate


class Counting(ToyVideoModel):
    """Frame number t scores t, each other frame only; the last has nothing to measure."""

    def own_scores(self, scenes, decomposition, before=None):
        seen = scenes["image"].flatten(1).sum(1).double()
        assert (before is None) == (self.t == 0)
        assert decomposition.masks.shape[-2:] == scenes["mask"].shape[-2:]
        self.t += 1
        return {} if self.t % 2 else {"number": torch.full_like(seen, self.t - 1 if self.t < 12 else torch.nan)}

    def stream(self, frames, **options):
        self.t = 0
        yield from super().stream(frames, **options)


def test_own_scores_are_means_over_the_frames_that_have_them():
    values = evaluate(Counting(), ToyVideos(3, num_frames=12), batch_size=2).values
    np.testing.assert_array_equal(values["number"], [5, 5, 5])  # of 1, 3, 5, 7, 9; 11 is NaN
    np.testing.assert_array_equal(values["number_last_10"], [6, 6, 6])  # of 3, 5, 7, 9
    assert evaluate(Counting(), ToyVideos(3, num_frames=12), skip=6).values["number"][0] == 8


def test_a_method_has_none_unless_it_says_so():
    assert "number" not in evaluate(ToyVideoModel(), ToyVideos()).values
    assert "number" not in evaluate(ToyModel(), ToyScenes()).values


# ---- R-NEM and N-EM, frame by frame and pixel by pixel -------------------------------------------------------------


def decomposed(model, image):
    """In float64 and numpy what evaluate lets the model say about its only batch: masks and means without C."""
    (seed,) = np.random.SeedSequence((0, 0)).generate_state(1, np.uint64)
    with torch.random.fork_rng([]):
        torch.manual_seed(int(seed))
        d = model.eval().decompose(image)
    return d.masks.double().numpy(), d.components.squeeze(-3).double().numpy()


def plain_scores(image, mu, gamma, ids, near, weight):
    """Of one image (H, W) with mu and gamma (K, H, W)."""
    mu = mu.clip(1e-6, 1 - 1e-6)
    entropy, kl = -image * np.log(mu) - (1 - image) * np.log(1 - mu), -np.log(1 - mu)
    top = mu.max(0)
    return {
        "loss": (gamma * entropy + weight * (1 - gamma) * kl).sum(),
        "intra": (gamma * entropy).sum(),
        "inter": ((1 - gamma) * kl).sum(),
        "upper_bound_loss": (-image * np.log(top) - (1 - image) * np.log(1 - top) - weight * np.log(1 - top)).sum(),
        "relational_loss": (near * (gamma * entropy + weight * (1 - gamma) * kl)).sum(),
        "confidence": gamma.max(0)[ids > 0].mean(),
    }


@pytest.fixture(scope="module")
def rnem():
    torch.manual_seed(0)
    return RNEM(3, latent_size=5, attention_size=3, encoder_channels=(2, 3), hidden_size=4, inter_weight=0.7)


@pytest.mark.parametrize("frames", [14, 5])
def test_scores_of_rnem_are_those_of_its_paper(rnem, frames):
    data = BouncingBalls(4, variant="6-8", frames=frames, grayscale=True, collisions=True)
    found, batch = evaluate(rnem, data).values, data.batch(range(4))
    gamma, mu = decomposed(rnem, batch["image"])
    image, ids, near = (batch[name].squeeze(2).numpy() for name in ("image", "mask", "collision"))
    assert near[:, :-1].any()
    for video in range(4):
        steps = [  # the step that takes frame t predicts frame t + 1; its collisions are those of frame t
            plain_scores(
                image[video, t + 1], mu[video, t + 1], gamma[video, t + 1], ids[video, t + 1], near[video, t], 0.7
            )
            for t in range(frames - 1)
        ]
        for name in steps[0]:
            values = [step[name] for step in steps]
            assert found[name][video] == pytest.approx(np.mean(values), rel=1e-9), name
            assert found[f"{name}_last_10"][video] == pytest.approx(np.mean(values[-10:]), rel=1e-9), name
    last = metrics.fg_ari(batch["mask"][:, -1], torch.from_numpy(gamma[:, -1].argmax(1)))
    np.testing.assert_array_equal(found["last_frame_fg_ari"], last)


def test_scores_of_rnem_without_labels_and_of_a_single_frame(rnem):
    balls = BouncingBalls(2, frames=3, grayscale=True)
    losses = {"loss", "intra", "inter", "upper_bound_loss"}
    losses |= {f"{name}_last_10" for name in losses}
    found = evaluate(rnem, [{"image": scene["image"]} for scene in balls]).values
    assert found.keys() == {"mse"} | losses
    assert "relational_loss" not in evaluate(rnem, balls).values and "confidence" in evaluate(rnem, balls).values
    assert "loss" not in evaluate(rnem, balls, frames=1).values  # of the first frame nothing is predicted


def test_scores_of_nem_are_those_of_its_last_iteration():
    torch.manual_seed(0)
    model, data = NEM(iterations=3, latent_size=6, inter_weight=0.7), Shapes(3)
    found, batch = evaluate(model, data).values, data.batch(range(3))
    gamma, mu = decomposed(model, batch["image"])
    for i, image in enumerate(batch["image"].squeeze(1).numpy()):
        expected = plain_scores(image, mu[i], gamma[i], batch["mask"][i].numpy(), 0, 0.7)
        del expected["relational_loss"]
        assert found.keys() >= expected.keys() and not any(name.endswith("_last_10") for name in found)
        for name, value in expected.items():
            assert found[name][i] == pytest.approx(value, rel=1e-9), name
