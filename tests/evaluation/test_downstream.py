"""Factors read from slots in any order: codes with a known answer, least squares and brute force as oracles."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from toy_scenes import ToyModel, ToyScenes
from toy_views import ToyMultiView, ToyViews
from unscene import MulMON
from unscene.data import OrbitScenes
from unscene.data.dataset import SceneDataset
from unscene.data.views import Views
from unscene.errors import InputError
from unscene.evaluation.downstream import Training, _Columns, dci_of_slots, predict_from_slots
from unscene.evaluation.slot_data import SlotData, collect_slots
from unscene.metrics import predict_factors
from unscene.models.base import Losses, MultiViewModel, SceneModel
from unscene.scenes import Decomposition

KINDS = {"x": "scalar", "angle": "angle", "shape": "categorical"}
SHORT = Training(steps=200, batch_size=32, milestones=(120, 160), validate_every=50, learning_rate=0.05)


def scenes(num_scenes, seed, useful=True):
    """Slots in random order that hold the factors of their objects, with two slots to spare; 1 to 3 objects each."""
    g = torch.Generator().manual_seed(seed)
    N, K = 4, 5
    shape = 3 + 2 * torch.randint(0, 3, (num_scenes, N), generator=g)
    x = 10 * torch.rand(num_scenes, N, 2, generator=g)
    angle = 6.28 * torch.rand(num_scenes, N, generator=g)
    present = torch.arange(N) <= torch.randint(1, N, (num_scenes, 1), generator=g)
    present[:, 0] = False
    code = torch.cat([x / 10, angle.cos()[..., None], angle.sin()[..., None], F.one_hot(shape // 2, 5)], 2)
    code = torch.cat([code, torch.zeros(num_scenes, K - N, code.shape[2])], 1)
    code[:, 0] = code[:, N:] = 0  # slots without object
    code = code if useful else torch.randn(code.shape, generator=g)
    order = torch.rand(num_scenes, K, generator=g).argsort(1)
    slots = torch.cat([torch.take_along_dim(code, order[..., None], 1), torch.rand(num_scenes, K, 1, generator=g)], 2)
    overlap = (order[:, None] == torch.arange(N)[:, None]).float()
    return SlotData(slots, overlap, present, {"x": x, "angle": angle, "shape": shape})


@pytest.mark.parametrize("matching", ["loss", "mask"])
@pytest.mark.parametrize("hidden_layers", [0, 1])
def test_factors_that_slots_hold_are_read(matching, hidden_layers):
    train, validation, test = scenes(300, 0), scenes(40, 1), scenes(60, 2)
    options = {"hidden_layers": hidden_layers, "hidden_size": 32, "matching": matching, "training": SHORT}
    found = predict_from_slots(train, validation, test, KINDS, **options)
    assert found.keys() == KINDS.keys()
    assert found["x"] > 0.9 and found["angle"] > 0.9 and found["shape"] > 0.95
    assert found == predict_from_slots(train, validation, test, KINDS, **options)


def test_slots_that_know_nothing():
    found = predict_from_slots(
        *(scenes(n, seed, useful=False) for seed, n in enumerate((200, 40, 100))),
        KINDS,
        matching="mask",
        training=SHORT,
    )
    assert found["x"] < 0.1 and found["angle"] < 0.1 and found["shape"] < 0.6


def test_the_linear_network_reaches_least_squares():
    """One object and one slot per scene, so that there is nothing to match."""
    g = torch.Generator().manual_seed(0)
    slots = torch.randn(300, 1, 4, generator=g)
    values = slots[..., 0] + 0.5 * torch.randn(300, 1, generator=g)
    present, overlap = torch.tensor([[False, True]]).expand(300, 2), torch.ones(300, 2, 1)
    data = SlotData(slots, overlap, present, {"f": torch.cat([torch.zeros(300, 1), 5 + 3 * values], 1)})
    patient = Training(steps=300, batch_size=200, milestones=(200, 250), learning_rate=0.05)
    train, test = data.take(slice(0, 200)), data.take(slice(200, 300))
    found = predict_from_slots(train, train, test, {"f": "scalar"}, training=patient)["f"]
    expected = predict_factors(slots[:, 0], {"f": values[:, 0]}, {"f": "scalar"}, train_fraction=2 / 3)["f"]
    assert found == pytest.approx(expected, abs=2e-3)


def plain_cost(predicted, data, columns, scene, entity, slot):
    """The loss of one object with one slot."""
    values, total = predicted[scene, slot].double(), 0.0
    for name, kind in columns.kinds.items():
        part, true = values[columns.slices[name]], data.factors[name][scene, entity].double()
        if kind == "categorical":
            total -= part.log_softmax(0)[columns.ids[name].tolist().index(true)]
        else:
            true = torch.stack([true.cos(), true.sin()]) if kind == "angle" else true
            mean, deviation = columns.scale[name]
            total += ((part - (true - mean) / deviation) ** 2).mean()
    return total.item()


def test_matching_is_the_best_permutation():
    data = scenes(8, 0)
    columns = _Columns(data, KINDS)
    predicted = torch.randn(8, 5, columns.width, generator=torch.Generator().manual_seed(1))
    cost = columns.cost(predicted, columns.targets(data))
    matched = list(zip(*(index.tolist() for index in data.pairs(cost)), strict=True))
    for scene in range(8):
        entities = data.present[scene].nonzero().flatten().tolist()
        plain = np.array([[plain_cost(predicted, data, columns, scene, n, k) for k in range(5)] for n in entities])
        np.testing.assert_allclose(cost[scene][entities], plain, rtol=1e-5)
        best = min(
            itertools.permutations(range(5), len(entities)),
            key=lambda slots: sum(plain[i, k] for i, k in enumerate(slots)),  # noqa: B023
        )
        assert [m for m in matched if m[0] == scene] == [(scene, n, k) for n, k in zip(entities, best, strict=True)]


def test_a_category_that_training_lacks_is_never_right():
    train, test = scenes(100, 0), scenes(50, 1)
    test.factors["shape"][:] = 99
    short = SHORT._replace(steps=5)
    assert predict_from_slots(train, train, test, {"shape": "categorical"}, training=short)["shape"] == 0


def test_training_stops_when_validation_stops_to_improve(monkeypatch):
    steps, step = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *args: steps.append(1) or step(self, *args))
    data, training = scenes(20, 0), Training(steps=500, validate_every=10, learning_rate=0.0)
    predict_from_slots(data, data, data, KINDS, training=training)
    assert len(steps) == 40  # the first validation is the best, three more gain nothing
    steps.clear()
    predict_from_slots(data, data, data, KINDS, training=training._replace(steps=7))
    assert len(steps) == 7


class Halves(SceneModel):
    """The left half of an image, and the right one."""

    def decompose(self, image, *, num_slots=None):
        B, C, H, W = image.shape
        masks = torch.zeros(B, num_slots or 2, H, W)
        masks[:, 0, :, :2] = masks[:, 1, :, 2:] = 1
        return Decomposition(masks, image[:, None].expand(-1, masks.shape[1], -1, -1, -1), torch.rand(B, 2, 3))

    def loss(self, batch, step):
        return Losses(torch.zeros(()), {})


def test_slots_are_collected_with_the_overlap_of_masks():
    class Data(ToyScenes):  # a square, rows 1 to 3 and columns 1 to 2 of 6 x 5; id 2 is never visible
        def batch(self, indices):
            return super().batch(indices) | {"factors": {"x": torch.arange(3.0) + 10 * torch.tensor(indices)[:, None]}}

    found = collect_slots(Halves(), Data(5), batch_size=2, limit=3)
    assert found.slots.shape == (3, 2, 3)
    assert found.present.tolist() == [[False, True, False]] * 3
    assert found.factors["x"].tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22]]
    square, left, right = 6, 12, 18
    expected = [[9 / (24 * left) ** 0.5, 15 / (24 * right) ** 0.5], [3 / (square * left) ** 0.5] * 2, [0, 0]]
    expected[1][1] = 3 / (square * right) ** 0.5
    np.testing.assert_allclose(found.overlap[2], expected, rtol=1e-6)
    assert torch.equal(collect_slots(Halves(), Data(5), batch_size=2).slots[:2], found.slots[:2])


# ---- several views ---------------------------------------------------------------------------------------------


class Tiles(SceneDataset):
    """Three tiles of random colour on black, seen from three cameras: view v starts at tile v; tile 1 may be hidden.

    ``factors``: the tile's colour, and whether it is bright.
    """

    def __init__(self, num_scenes, hidden=True):
        self.num_scenes, self.hidden = num_scenes, hidden

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        colour = torch.stack([torch.rand(4, 3, generator=torch.Generator().manual_seed(i)) for i in indices])
        colour[:, 0] = 0
        ids = torch.stack([1 + (torch.arange(3) + v) % 3 for v in range(3)])  # (V, tile)
        if self.hidden:
            ids[1:][ids[1:] == 1] = 0  # only the first view shows it
        mask = ids.repeat_interleave(2, 1).unsqueeze(1).expand(-1, 2, -1)  # (V, 2, 6)
        factors = {"colour": colour, "bright": (colour[..., 0] > 0.5).long()}
        shape = (len(indices), *mask.shape)
        return {
            "image": colour[:, mask].movedim(-1, 2),
            "mask": mask.expand(shape),
            "viewpoint": torch.arange(3.0).expand(len(indices), -1).unsqueeze(2),
            "factors": factors,
        }


class Reader(MultiViewModel):
    """Reads the colours of `Tiles` where it knows them to be, into slots in an order of each scene's own.

    ``rotation`` (3, 3) mixes the numbers of a slot. A fourth slot is the background.
    """

    view_size = 1

    def __init__(self, rotation=None):
        super().__init__()
        self.rotation = torch.eye(3) if rotation is None else rotation

    def decompose(self, image, viewpoint=None, *, num_slots=None):
        B, V, _, H, W = image.shape
        colour = torch.cat([torch.zeros(B, 1, 3), image[:, 0, :, 0, ::2].mT], 1)  # of tiles 1 to 3, as view 0 has them
        shown = (image.unsqueeze(2) - colour[:, None, :, :, None, None]).abs().sum(3) < 1e-6
        order = torch.rand(B, 4).argsort(1)
        slots = torch.take_along_dim(colour @ self.rotation, order[:, :, None], 1)[:, None].expand(-1, V, -1, -1)
        masks = torch.take_along_dim(shown.float(), order[:, None, :, None, None], 2)
        return Decomposition(masks, torch.zeros(B, V, 4, 3, H, W), slots)

    def project(self, slots, viewpoint):
        return slots[:, None] + viewpoint[..., None]

    def render(self, slots, viewpoint, size=None):
        raise NotImplementedError

    def loss(self, batch, step):
        return Losses(torch.zeros(()), {})


def rotation():
    """Turns every axis to all three."""
    a = torch.tensor([[2.0, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3
    torch.testing.assert_close(a @ a.T, torch.eye(3))
    return a


COLOUR = {"colour": "scalar"}


def test_slots_of_views_are_paired_with_objects_over_all_views():
    found = collect_slots(Reader(), Tiles(20), batch_size=8)
    assert found.slots.shape == (20, 4, 3) and found.overlap.shape == (20, 4, 4)
    assert found.present.tolist() == [[False, True, True, True]] * 20
    scene, entity, slot = found.pairs()
    assert len(scene) == 60
    torch.testing.assert_close(found.slots[scene, slot], found.factors["colour"][scene, entity])
    torch.testing.assert_close(found.overlap[scene, entity, slot], torch.ones(60))


def test_projected_slots_are_those_of_each_view():
    data = Tiles(6)
    found, shared = collect_slots(Reader(), data, projected=True), collect_slots(Reader(), data)
    assert found.slots.shape == (18, 4, 3)
    assert found.present[:, 1].tolist() == [True, False, False] * 6  # tile 1, by view
    torch.testing.assert_close(
        found.slots.unflatten(0, (6, 3)), shared.slots[:, None] + torch.arange(3.0)[:, None, None]
    )
    of_views = Views(data).batch(range(18))
    torch.testing.assert_close(found.factors["colour"], of_views["factors"]["colour"])
    scene, entity, slot = found.pairs()
    torch.testing.assert_close(found.overlap[scene, entity, slot], torch.ones(len(scene)))
    view = (scene % 3)[:, None]
    torch.testing.assert_close(found.slots[scene, slot] - view, found.factors["colour"][scene, entity])


@pytest.mark.parametrize("hidden", [False, True])
def test_dci_tells_pure_slots_from_rotated_ones(hidden):
    data, few = Tiles(150, hidden), {"num_trees": 10}
    pure = dci_of_slots(collect_slots(Reader(), data), COLOUR, **few)
    assert pure.disentanglement > 0.95 and pure.completeness > 0.95 and pure.informativeness > 0.95
    mixed = dci_of_slots(collect_slots(Reader(rotation()), data), COLOUR, **few)
    assert mixed.disentanglement < 0.4 and mixed.completeness < 0.4 and mixed.informativeness > 0.8
    assert pure.importance.shape == (3, 3) and pure.names == ["colour.0", "colour.1", "colour.2"]
    assert dci_of_slots(collect_slots(Reader(), data), COLOUR, **few).disentanglement == pure.disentanglement


def test_slots_of_mulmon_in_both_forms():
    sizes = {"refinement_channels": (4, 4), "refinement_mlp": (6,), "decoder_channels": (4,), "lstm_size": 6}
    model = MulMON(image_size=(16, 16), num_slots=3, iterations=2, latent_size=5, **sizes)
    data = OrbitScenes(3, views=2, image_size=16, most=3)
    shared, projected = (collect_slots(model, data, projected=p) for p in (False, True))
    assert shared.slots.shape == (3, 3, 5) and shared.overlap.shape == (3, 4, 3)
    viewpoint = data.batch(range(3))["viewpoint"]
    for row, slots in enumerate(projected.slots):
        scene, view = divmod(row, 2)
        code = model.view_encoder(viewpoint[scene, view]).expand(3, -1)
        torch.testing.assert_close(slots, model.projector(torch.cat([shared.slots[scene], code], 1)))


def test_prediction_from_slots_of_views():
    data = collect_slots(Reader(), Tiles(120))
    train, test = data.take(slice(0, 80)), data.take(slice(80, 120))
    kinds = {"colour": "scalar", "bright": "categorical"}
    found = predict_from_slots(train, test, test, kinds, matching="mask", training=SHORT)
    assert found["colour"] > 0.95 and found["bright"] > 0.9


def test_bad_input():
    data = scenes(10, 0)
    nobody = data._replace(present=torch.zeros_like(data.present))
    for call, message in (
        (lambda: predict_from_slots(data, data, data, KINDS, matching="size"), "matching is 'size'; slots and objects"),
        (lambda: predict_from_slots(data, data, data, {"size": "scalar"}), "there is no factor 'size'"),
        (lambda: predict_from_slots(data, data, nobody, KINDS), "no object is visible in the scenes of test"),
        (lambda: dci_of_slots(nobody, KINDS), "no object is visible in the scenes; there is nothing to predict"),
        (lambda: collect_slots(Halves(), ToyScenes()), "factor prediction needs images with masks and factors"),
        (
            lambda: collect_slots(Halves(), Tiles(2)),
            "factor prediction needs images .* the single views with Views",
        ),
        (
            lambda: collect_slots(ToyMultiView(), ToyViews()),
            "factor prediction needs scenes of several views with",
        ),
        (lambda: collect_slots(ToyMultiView(), ToyScenes()), "factor prediction needs scenes of several views"),
        (lambda: collect_slots(ToyModel(), Tiles(2), projected=True), "ToyModel does not project slots to views"),
    ):
        with pytest.raises(InputError, match=message):
            call()
