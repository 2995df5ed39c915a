import numpy as np
import pytest
import torch

from unscene.data import FilteredScenes, MultiDSprites, SceneDataset, Tetrominoes, open_dataset
from unscene.errors import InputError


def true_counts(dataset):
    return np.array([len(set(scene["mask"].unique().tolist()) - {0}) for scene in dataset])


@pytest.fixture(scope="module")
def sprites():
    return MultiDSprites(150, seed=1)


def test_exactly_two_objects(sprites):
    filtered = FilteredScenes(sprites, 2, 2)
    counts = true_counts([sprites[i] for i in range(150)])
    assert filtered.indices == np.flatnonzero(counts == 2).tolist() and 20 < len(filtered) < 60
    batch = filtered.batch([3, 0])
    for name in ("image", "mask", "visibility"):
        assert torch.equal(batch[name][0], sprites[filtered.indices[3]][name]), name
    assert torch.equal(filtered[0]["factors"]["shape"], sprites[filtered.indices[0]]["factors"]["shape"])


@pytest.mark.parametrize(("fewest", "most"), [(0, None), (4, None), (0, 3), (3, 4)])
def test_limits(sprites, fewest, most):
    counts = true_counts([sprites[i] for i in range(150)])
    expected = np.flatnonzero((counts >= fewest) & (counts <= (99 if most is None else most)))
    assert FilteredScenes(sprites, fewest, most).indices == expected.tolist()


class Labelled(SceneDataset):
    def __init__(self, **labels):
        self.labels = labels

    def __len__(self):
        return 3

    def batch(self, indices):
        return {"image": torch.zeros(len(indices), 1, 2, 2)} | {n: v[list(indices)] for n, v in self.labels.items()}


def test_visibility_counts_where_there_are_no_label_maps():
    visibility = torch.tensor([[True, True, False], [True, True, True], [False, False, True]])
    assert FilteredScenes(Labelled(visibility=visibility), 1, 1).indices == [0, 2]


def test_a_visible_object_has_pixels():
    """Ids need not be contiguous, and what is called visible without a pixel is not."""
    mask = torch.tensor([[[0, 3], [3, 3]], [[1, 3], [2, 2]], [[0, 0], [0, 0]]])
    dataset = Labelled(mask=mask, visibility=torch.ones(3, 4, dtype=torch.bool))
    assert [FilteredScenes(dataset, n, n).indices for n in (0, 1, 3)] == [[2], [0], [1]]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((-1, 2), "-1 to 2 objects are impossible; set 0 <= min_objects <= max_objects"),
        ((3, 2), "3 to 2 objects are impossible"),
        ((4, 4), "none of the 5 scenes of Tetrominoes has 4 to 4 objects"),
        ((4, None), "none of the 5 scenes of Tetrominoes has 4 to any number of objects"),
    ],
)
def test_bad_limits(limits, message):
    with pytest.raises(InputError, match=message):
        FilteredScenes(Tetrominoes(5), *limits)


def test_scenes_without_labels_are_refused():
    with pytest.raises(InputError, match="Labelled has no labels, so that objects cannot be counted"):
        FilteredScenes(Labelled(), 1)


def test_it_opens_any_source():
    dataset = open_dataset("multi_dsprites", "val", num_objects=2, num_scenes=40)
    assert type(dataset) is FilteredScenes and set(true_counts(list(dataset))) == {2}
    with pytest.raises(InputError, match="option min_objects of FilteredScenes is 'two'; it must be int"):
        open_dataset("multi_dsprites", num_objects="two", num_scenes=4)
