import json

import numpy as np
import pytest
import torch
from PIL import Image

from toy_scenes import ToyModel
from toy_views import ToyMultiView, ToyViews
from unscene.errors import InputError
from unscene.export import export_views
from unscene.figures import palette

OF_VIEW = ["", "_labels", "_slot_0", "_slot_1", "_slot_2", "_uncertainty"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def info(folder):
    return json.loads((folder / "info.json").read_text())


def load(path):
    with Image.open(path) as picture:
        picture.load()
        return picture


def test_views_that_were_not_observed_are_shown_beside_the_real_ones(tmp_path):
    scene = ToyViews()[1]
    folder = export_views(ToyMultiView(), scene, tmp_path / "out", name="toy-1", source="somewhere", observe=3)
    views = [f"view_{q}{part}.png" for q in range(2) for part in OF_VIEW]
    assert names(folder) == sorted(["info.json", "observed.png", "views.npz", "views.png", *views])
    assert folder == tmp_path / "out" / "toy-1"
    assert info(folder) == {
        **{"scene": "somewhere", "method": "ToyMultiView", "observed": [0, 2, 4], "viewpoints": [[1.0], [3.0]]},
        **{"samples": 20, "seed": 0},
    }
    for q, v in enumerate((1, 3)):
        pixels = scene["image"][v].mul(255).byte().movedim(0, -1).numpy()
        np.testing.assert_array_equal(np.asarray(load(folder / f"view_{q}.png")), pixels)
        labels = load(folder / f"view_{q}_labels.png")
        np.testing.assert_array_equal(np.asarray(labels), scene["mask"][v])
        assert labels.convert("RGB").getpixel((v, 0)) == tuple(palette(3)[1])
        slot = np.asarray(load(folder / f"view_{q}_slot_1.png"))
        np.testing.assert_array_equal(slot[..., 3] > 0, scene["mask"][v] == 1)
    arrays = np.load(folder / "views.npz")
    assert {name: array.shape for name, array in arrays.items()} == {
        **{"viewpoint": (2, 1), "reconstruction": (2, 3, 8, 14), "labels": (2, 8, 14), "log_variance": (2, 8, 14)},
        **{"slots": (3, 2)},
    }
    assert (arrays["log_variance"] == -6).all()  # without a scale of the slots it is sure


def test_given_viewpoints_are_shown_after_all_views_were_observed(tmp_path):
    viewpoint = torch.tensor([[6.0], [8.0], [0.0]])
    model = ToyMultiView(scale=1.0)
    folder = export_views(model, ToyViews()[1], tmp_path, name="toy", viewpoint=viewpoint, num_slots=4, samples=50)
    found, arrays = info(folder), np.load(folder / "views.npz")
    assert found["observed"] == [0, 1, 2, 3, 4] and found["viewpoints"] == [[6.0], [8.0], [0.0]]
    assert found["num_slots"] == 4 and arrays["slot_scale"].shape == (4, 2)
    expected = ToyMultiView().render(torch.full((1, 4, 2), 1.0), viewpoint[None]).reconstruction[0]
    np.testing.assert_array_equal(arrays["reconstruction"], expected)
    unsure = arrays["log_variance"] > -5  # the lower block may begin later; all else is the same for every gap
    assert unsure[0, 4:7, 6:9].any() and not unsure[0, :4].any() and not unsure[0, :, :6].any()


def test_the_result_depends_on_the_seed_alone(tmp_path):
    def variance(seed):
        folder = export_views(ToyMultiView(scale=1.0), ToyViews()[1], tmp_path, name="toy", seed=seed, samples=3)
        return np.load(folder / "views.npz")["log_variance"]

    first = variance(0)
    torch.rand(1)
    assert (variance(0) == first).all() and (variance(1) != first).any()


def test_a_scene_from_elsewhere_gets_a_folder_of_its_own(tmp_path):
    folders = [
        export_views(ToyMultiView(), ToyViews()[i], tmp_path, name="a", source=s).name for i, s in enumerate("xyx")
    ]
    assert folders == ["a", "a-2", "a"]


@pytest.mark.parametrize(
    ("model", "scene", "options", "message"),
    [
        (ToyModel(), ToyViews()[0], {}, "ToyModel cannot show other views of a scene; use a model such as MulMON"),
        (ToyMultiView(), {"image": torch.rand(3, 8, 14)}, {}, "the data has no viewpoints; choose a dataset of scenes"),
        (ToyMultiView(), ToyViews()[0], {"observe": 5}, "cannot observe 5 of 5 views and show the others; lower obse"),
        (ToyMultiView(), ToyViews()[0], {"observe": 0}, "cannot observe 0 of 5 views"),
        (ToyMultiView(), ToyViews()[0], {"observe": 6, "viewpoint": torch.zeros(1, 1)}, "cannot observe 6 of 5 views"),
        (ToyMultiView(), ToyViews()[0], {"samples": 1}, "toy: samples is 1; a variance needs at least 2"),
        (ToyMultiView(), ToyViews()[0], {"iterations": 3}, "ToyMultiView does not take iterations; leave it out"),
    ],
)
def test_bad_input(model, scene, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_views(model, scene, tmp_path / "out", name="toy", **options)
    assert not (tmp_path / "out").exists()
