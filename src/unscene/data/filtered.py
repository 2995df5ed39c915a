"""FilteredScenes: those scenes of a dataset that have so many objects."""

from __future__ import annotations

from collections.abc import Sequence

from unscene.data.batches import batches
from unscene.data.clips import visible_ids
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.progress import progress
from unscene.scenes import Scenes


class FilteredScenes(SceneDataset):
    """The scenes of ``dataset`` with ``min_objects`` to ``max_objects`` visible objects (None: any number), in order.

    Visible are the ids that occur in the label map, without the background; where there are no label maps,
    ``visibility`` tells. All scenes are read once at the start: some seconds for tens of thousands of images.
    Multi-dSprites2 of DTI-Sprites (Monnier et al., 2021) are the Multi-dSprites with 2 to 2 objects. ``indices`` are
    those of the scenes in ``dataset``.

    Raises InputError if the limits are not 0 <= min <= max, there are no labels, or no scene qualifies.
    """

    def __init__(self, dataset: SceneDataset, min_objects: int = 0, max_objects: int | None = None) -> None:
        if min_objects < 0 or (max_objects is not None and max_objects < min_objects):
            raise InputError(
                f"{min_objects} to {max_objects} objects are impossible; set 0 <= min_objects <= max_objects"
            )
        self.dataset = dataset
        self.indices = [
            index
            for index, count in enumerate(_count_objects(dataset))
            if count >= min_objects and (max_objects is None or count <= max_objects)
        ]
        if not self.indices:
            limits = f"{min_objects} to {'any number of' if max_objects is None else max_objects}"
            raise InputError(f"none of the {len(dataset)} scenes of {type(dataset).__name__} has {limits} objects")

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self.dataset.batch([self.indices[index] for index in indices])


def _count_objects(dataset: SceneDataset) -> list[int]:
    """The number of visible objects of every scene."""
    counts: list[int] = []
    for indices, batch in batches(dataset, len(dataset)):
        if "mask" in batch:
            visible = visible_ids(batch["mask"], int(batch["mask"].max()) + 1)
        elif "visibility" in batch:
            visible = batch["visibility"]
        else:
            raise InputError(f"{type(dataset).__name__} has no labels, so that objects cannot be counted")
        counts += visible[:, 1:].sum(1).tolist()
        progress("counting objects:", indices.stop, len(dataset))
    return counts
