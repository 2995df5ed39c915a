"""A dataset from its beginning to its end, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

from unscene.data.dataset import SceneDataset
from unscene.scenes import Scenes

MOST = 64  # scenes in a batch
MOST_VALUES = 1 << 26  # in the images of a batch: 256 MB of float32


def batches(dataset: SceneDataset, count: int) -> Iterator[tuple[range, Scenes]]:
    """The first ``count`` scenes: at most 64 at once, and fewer of large ones such as videos, at least one."""
    if count == 0:
        return
    first = dataset.batch(range(1))  # of which the size of all follows
    step = max(1, min(MOST, MOST_VALUES // first["image"].numel()))
    for start in range(0, count, step):
        indices = range(start, min(start + step, count))
        yield indices, first if indices == range(1) else dataset.batch(indices)
