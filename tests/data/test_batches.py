import pytest
import torch

from unscene.data import SceneDataset
from unscene.data.batches import batches


class Videos(SceneDataset):
    """The image of scene i is filled with i; remembers what was asked for."""

    def __init__(self, shape):
        self.shape, self.asked = shape, []

    def __len__(self):
        return 200

    def batch(self, indices):
        self.asked.append(list(indices))
        return {"image": torch.tensor(list(indices)).view(-1, 1, 1, 1, 1).expand(-1, *self.shape)}


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((2, 3, 8, 8), [64, 64, 2]), ((128, 3, 128, 128), [10] * 13), ((1 << 10, 3, 256, 256), [1] * 130)],
)
def test_large_scenes_come_in_smaller_batches(shape, sizes):
    dataset = Videos(shape)
    seen = list(batches(dataset, 130))
    assert [len(indices) for indices, _ in seen] == sizes
    assert [i for indices, _ in seen for i in indices] == list(range(130))
    assert all(batch["image"][:, 0, 0, 0, 0].tolist() == list(indices) for indices, batch in seen)


def test_a_scene_that_fills_a_batch_is_read_once():
    dataset = Videos((1 << 10, 3, 256, 256))
    assert len(list(batches(dataset, 3))) == 3 and dataset.asked == [[0], [1], [2]]
    assert list(batches(dataset, 0)) == [] and len(dataset.asked) == 3
