"""SceneDataset: what all readers and generators share, and how samples become batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from unscene.scenes import Scenes


class SceneDataset(Dataset, ABC):
    """Map-style dataset of Scenes.

    A subclass implements `batch(indices)`, the fast vectorised path; `dataset[i]` is the same
    sample without batch axis. A DataLoader with `collate_fn=collate` fetches whole batches.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    def splits(self) -> dict[str, int | None]:
        """The splits of the source and their sizes, None where scenes are drawn on demand; {} if it has none."""
        return {}

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Scenes:
        """The samples ``indices`` (already within range, non-negative) as one batch."""

    def __getitem__(self, index: int) -> Scenes:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} scenes")
        return _map(lambda tensor: tensor[0], self.batch([index % len(self)]))

    def __getitems__(self, indices: Sequence[int]) -> Scenes:
        return self.batch(indices)


class StoredScenes(SceneDataset):
    """The scenes of one of several splits that are stored; a subclass sets ``split`` and ``_sizes``, of all of them."""

    split: str
    _sizes: dict[str, int]

    def __len__(self) -> int:
        return self._sizes[self.split]

    @property
    def splits(self) -> dict[str, int]:
        return self._sizes


def collate(samples: Scenes | Sequence[Scenes]) -> Scenes:
    """Stack samples to a batch; a batch (from `SceneDataset.__getitems__`) passes through."""
    if isinstance(samples, dict):
        return samples
    first = samples[0]
    return {
        key: collate([sample[key] for sample in samples])
        if isinstance(first[key], dict)
        else torch.stack([sample[key] for sample in samples])
        for key in first
    }


def _map(function, value):
    if isinstance(value, dict):
        return {key: _map(function, item) for key, item in value.items()}
    return function(value)
