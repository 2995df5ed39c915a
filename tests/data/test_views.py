"""Views as images of their own, against slices of whole scenes."""

import pytest
import torch

from unscene.data import BouncingBalls, SceneDataset, Tetrominoes, Views, collate
from unscene.errors import InputError


class Counted(SceneDataset):
    """Three scenes of 4 views, all values telling scene and view; counts how many it has read."""

    splits = {"train": 3, "test": None}

    def __init__(self, labels=("mask", "factors", "visibility", "viewpoint")):
        self.labels, self.read = labels, []

    def __len__(self):
        return 3

    def batch(self, indices):
        self.read += indices
        scene, view = torch.tensor(indices)[:, None], torch.arange(4)
        image = ((20 * scene + view) / 100)[:, :, None, None, None].expand(-1, -1, 1, 2, 3)
        mask = (view == 2).long()[None, :, None, None].expand(len(indices), -1, 2, 3)  # object 1 is in view 2 only
        factors = {"size": 7 * scene.expand(-1, 2), "place": scene[..., None].expand(-1, 2, 4)}
        visibility = torch.ones(len(indices), 2, dtype=torch.bool)
        viewpoint = (10 * scene + view)[..., None].expand(-1, -1, 3)
        labels = {"mask": mask, "factors": factors, "visibility": visibility, "viewpoint": viewpoint}
        return {"image": image} | {name: labels[name] for name in self.labels}


def test_every_view_is_an_image():
    views = Views(Counted())
    assert len(views) == 12
    for i in range(12):
        scene, view = divmod(i, 4)
        assert views[i]["image"].shape == (1, 2, 3) and views[i]["mask"].shape == (2, 3)
        assert (views[i]["image"] == (20 * scene + view) / 100).all()
        assert views[i]["viewpoint"].tolist() == [10 * scene + view] * 3
        assert views[i]["visibility"].tolist() == [view != 2, view == 2]
        assert views[i]["factors"]["size"].tolist() == [7 * scene] * 2
        assert views[i]["factors"]["place"].tolist() == [[scene] * 4] * 2  # as long as there are views, but not theirs


def test_labels_that_are_not_there():
    assert Views(Counted(()))[3].keys() == {"image"}
    assert Views(Counted(("visibility",)))[3]["visibility"].tolist() == [True, True]


def test_each_scene_is_read_once_per_batch():
    dataset = Counted()
    views = Views(dataset)
    dataset.read.clear()
    batch = views.batch([11, 0, 9, 3])
    assert sorted(dataset.read) == [0, 2]
    torch.testing.assert_close(batch, collate([views[i] for i in (11, 0, 9, 3)]))


def test_splits_are_counted_in_views():
    assert Views(Counted()).splits == {"train": 12, "test": None}


class Ragged(SceneDataset):
    """Scenes of 2, 5 and 1 views, which are read one by one."""

    splits = {"train": 3}
    view_counts = [2, 5, 1]

    def __len__(self):
        return 3

    def batch(self, indices):
        raise AssertionError("the views of different scenes cannot be stacked")

    def batch_views(self, indices, views):
        return {"image": torch.tensor([indices, views]).T}


def test_scenes_may_have_different_numbers_of_views():
    views = Views(Ragged())
    assert len(views) == 8 and views.splits == {}
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0)]
    assert [tuple(pair.flatten().tolist()) for pair in views.batch(range(8))["image"]] == pairs


def test_images_and_videos_are_refused():
    with pytest.raises(
        InputError, match=r"Tetrominoes holds images of shape \(3, 35, 35\), not scenes of several views"
    ):
        Views(Tetrominoes(2))
    with pytest.raises(InputError, match=r"BouncingBalls holds videos .*, not scenes.*; for videos take Frames"):
        Views(BouncingBalls(2, frames=2))
