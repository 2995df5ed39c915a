"""Summaries of a tiny hand-made data set, with and without labels, and of a generator."""

import json

import pytest
import torch

from unscene.data.dataset import SceneDataset
from unscene.data.hdf5 import HDF5Scenes, save_hdf5
from unscene.data.multi_dsprites import MultiDSprites
from unscene.data.orbit import OrbitScenes
from unscene.data.summary import format_summary, summarise
from unscene.data.views import Views
from unscene.errors import InputError


class Tiny(SceneDataset):
    """100 scenes of at most two objects: scene i shows i % 3 of them."""

    def __init__(self, labels: tuple[str, ...] = ("mask", "factors", "visibility"), num_scenes: int = 100) -> None:
        self.labels, self.num_scenes = labels, num_scenes

    def __len__(self) -> int:
        return self.num_scenes

    def batch(self, indices):
        index = torch.tensor(indices)
        visibility = torch.arange(3) <= (index % 3)[:, None]
        mask = torch.zeros(len(index), 2, 4, dtype=torch.uint8)
        mask[:, 0, :2] = torch.tensor([1, 2]) * visibility[:, 1:]
        factors = {
            "x": index[:, None] + torch.tensor([-9.0, 0.25, 0.5]),
            "shape": torch.tensor([0, 7, 8], dtype=torch.uint8).repeat(len(index), 1),
        }
        labels = {"mask": mask, "factors": factors, "visibility": visibility}
        image = (index / 128)[:, None, None, None].expand(-1, 3, 2, 4)
        return {"image": image} | {name: labels[name] for name in self.labels}


def test_summary_counts_visible_objects_only():
    assert summarise(Tiny()) == {
        "dataset": "Tiny",
        "splits": {},
        "scenes": 100,
        "summarised": 100,
        "image": {"shape": [3, 2, 4], "dtype": "float32", "range": [0.0, 99 / 128]},
        "objects": {0: 34, 1: 33, 2: 33},
        "factors": {"x": {"range": [1.25, 98.5]}, "shape": {"counts": {7: 66, 8: 33}}},
    }


def test_limit_stops_early():
    summary = summarise(Tiny(), limit=4)
    assert (summary["scenes"], summary["summarised"]) == (100, 4)
    assert summary["objects"] == {0: 2, 1: 1, 2: 1}
    assert summarise(Tiny(), limit=None) == summarise(Tiny(), limit=500)


def test_objects_are_counted_in_the_label_map_without_visibility():
    assert summarise(Tiny(labels=("mask",)))["objects"] == {0: 34, 1: 33, 2: 33}


def test_images_alone():
    summary = summarise(Tiny(labels=()))
    assert summary["objects"] is None and summary["factors"] == {}
    assert "objects  no labels" in format_summary(summary)


def test_scenes_without_a_visible_object():
    summary = summarise(Tiny(), limit=1)
    assert summary["objects"] == {0: 1}
    assert format_summary(summary).splitlines()[-1] == "shape    none"


def test_table():
    assert format_summary(summarise(Tiny(), limit=50)).splitlines() == [
        "Tiny",
        "scenes   100; what follows describes the first 50",
        "image    float32 (3, 2, 4), 0 to 0.3828",
        "objects  0:17, 1:17, 2:16",
        "x        1.25 to 49.25",
        "shape    7:33, 8:16",
    ]


def test_splits_have_a_line(tmp_path):
    save_hdf5({"train": Tiny(num_scenes=3), "test": Tiny(num_scenes=2)}, tmp_path / "a.h5")
    assert "splits   test:2, train:3\n" in format_summary(summarise(HDF5Scenes(tmp_path / "a.h5")))
    drawn = format_summary(summarise(MultiDSprites(2)))
    assert drawn.splitlines()[1].split(maxsplit=1) == ["splits", "train, val, test; scenes are drawn on demand"]


def test_summary_of_a_generator_is_json_and_fits_the_screen():
    summary = summarise(MultiDSprites(100, variant="binarized"))
    assert json.loads(json.dumps(summary))["image"]["shape"] == [1, 64, 64]
    assert max(map(len, format_summary(summary).splitlines())) <= 100


def test_viewpoints_have_a_line(tmp_path):
    scenes = OrbitScenes(3, views=4, image_size=8)
    summary = summarise(scenes)
    assert summary["viewpoint"] == {"shape": [4, 3], "range": pytest.approx([-2, 1], abs=1e-5), "same": True}
    assert "viewpoint  (4, 3), -2 to 1, the same in all scenes\n" in format_summary(summary)
    save_hdf5({"train": scenes}, tmp_path / "a.h5")
    assert summarise(HDF5Scenes(tmp_path / "a.h5"))["viewpoint"] == summary["viewpoint"]
    assert "(3,), -2 to 1, different between scenes" in format_summary(summarise(Views(scenes)))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="limit is 0; summarise at least 1 scene"):
        summarise(Tiny(), limit=0)
    with pytest.raises(InputError, match="Tiny holds no scenes"):
        summarise(Tiny(num_scenes=0))
