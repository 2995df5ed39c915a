"""Views: the views of multi-view scenes as single images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from unscene.data.clips import ReadsClips, visible_ids
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.scenes import Scenes

PER_VIEW = ("image", "mask", "viewpoint", "camera")  # what has an axis V after that of the batch


@runtime_checkable
class ReadsViews(Protocol):
    """A dataset of scenes that reads single views faster than all, or whose scenes have different numbers of them."""

    view_counts: Sequence[int]  # of every scene

    def batch_views(self, indices: Sequence[int], views: Sequence[int]) -> Scenes:
        """Of each of the scenes ``indices`` its view of ``views``, as one batch of images."""


class Views(SceneDataset):
    """Every view of every scene of ``dataset`` as an image of its own (C, H, W), for models of single images.

    The views of a scene follow each other; splits stay those of scenes, so that no scene is in two of them. ``mask``
    (H, W) and ``viewpoint`` (P,) are those of the view, and ``visibility`` too where there is a mask; ``factors``
    those of the scene.

    Raises InputError for a dataset of images or videos.
    """

    def __init__(self, dataset: SceneDataset) -> None:
        self.dataset = dataset
        self._source = dataset if isinstance(dataset, ReadsViews) else WholeScenes(dataset)
        self._counts = np.asarray(self._source.view_counts)
        self._ends = self._counts.cumsum()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def splits(self) -> dict[str, int | None]:
        """In views; {} where the scenes have different numbers of them."""
        if (self._counts != self._counts[0]).any():
            return {}
        sizes = self.dataset.splits.items()
        return {split: None if size is None else size * int(self._counts[0]) for split, size in sizes}

    def batch(self, indices: Sequence[int]) -> Scenes:
        scenes = np.searchsorted(self._ends, indices, side="right")
        views = np.asarray(indices) - (self._ends - self._counts)[scenes]
        return self._source.batch_views(scenes.tolist(), views.tolist())


class WholeScenes:
    """`ReadsViews` of any dataset of multi-view scenes: reads each of them whole, once per batch, and picks."""

    def __init__(self, dataset: SceneDataset) -> None:
        image = dataset[0]["image"]
        if image.ndim != 4 or isinstance(dataset, ReadsClips):
            raise InputError(
                f"{type(dataset).__name__} holds {'images' if image.ndim == 3 else 'videos'} of shape "
                f"{tuple(image.shape)}, not scenes of several views (V, C, H, W); for videos take Frames"
            )
        self.dataset, self.view_counts = dataset, [len(image)] * len(dataset)

    def batch_views(self, indices: Sequence[int], views: Sequence[int]) -> Scenes:
        scenes, position = torch.tensor(indices).unique(return_inverse=True)
        return pick_views(self.dataset.batch(scenes.tolist()), position, torch.tensor(views))


def pick_views(scenes: Scenes, position: torch.Tensor, views: torch.Tensor) -> Scenes:
    """Of the scenes of a batch at ``position`` (n,) one view each, ``views`` (n,), as a batch of n images."""
    picked = {name: scenes[name][position, views] for name in PER_VIEW if name in scenes}
    if "factors" in scenes:
        picked["factors"] = {name: value[position] for name, value in scenes["factors"].items()}
    if "visibility" in scenes:
        picked["visibility"] = scenes["visibility"][position]
        if "mask" in picked:
            picked["visibility"] = visible_ids(picked["mask"], scenes["visibility"].shape[1])
    return picked
