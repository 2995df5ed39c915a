"""RNEMScenes: the HDF5 files of bouncing balls published with Relational N-EM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from unscene.data.bouncing_balls import PALETTES, palette
from unscene.data.clips import visible_ids
from unscene.data.dataset import StoredScenes
from unscene.data.hdf5 import check_hdf5, opened
from unscene.errors import InputError
from unscene.scenes import Scenes

GROUPS = {"train": "training", "val": "validation", "test": "test"}  # our split: its name in the files
MAX_BALLS = 8


def is_rnem(path: Path) -> bool:
    """Whether it is an HDF5 file with one of the groups, in which there are ``features``."""
    if not (path.is_file() and h5py.is_hdf5(path)):
        return False
    with opened(path) as file:
        return any(f"{group}/features" in file for group in GROUPS.values())


class RNEMScenes(StoredScenes):
    """One split of balls4mass64.h5, balls678mass64.h5 or balls3curtain64.h5.

    ``image`` (T, 3, 64, 64), (T, 1, 64, 64) with ``grayscale``: white balls on black, or coloured by their id as in
    `BouncingBalls` with ``colors`` 8 or 4; ``mask`` (T, 64, 64) uint8; ``visibility`` (9,): up to eight balls, of which
    a file may have fewer. T is 51, or the first ``frames``.

    The files hold, per group training, validation and test, ``features`` (0 or 1) and ``groups`` (ids) of shape
    (51, N, 64, 64, 1): time first. With ``collisions`` the member of that name is read too, as ``collision``
    (T, 64, 64) bool: where balls collide. Of positions and velocities the layout is not documented.

    Raises InputError if the file is missing, no HDF5, truncated, of another layout, or lacks the split, and if
    ``frames`` is more than it has.

    Source: https://github.com/sjoerdvansteenkiste/Relational-NEM (van Steenkiste et al., 2018). The layout is taken
    from what its loaders expect, not from the files.
    """

    timed_factors = ()

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        frames: int | None = None,
        colors: int | None = None,
        grayscale: bool = False,
        collisions: bool = False,
    ) -> None:
        if split not in GROUPS:
            raise InputError(f"unknown split {split!r}; choose one of {', '.join(GROUPS)}")
        if colors not in PALETTES:
            raise InputError(f"colors is {colors}; balls come in 8 or 4 colours, or white with None")
        self.path, self.split, self._group = Path(path), split, GROUPS[split]
        self._palette = None if colors is None else torch.from_numpy(palette(colors, grayscale))
        self._channels, self.collisions = 1 if grayscale else 3, collisions
        check_hdf5(self.path)
        with opened(self.path) as file:
            length = self._check(file)
            groups = {part: file[group] for part, group in GROUPS.items() if group in file}
            self._sizes = {part: group["features"].shape[1] for part, group in groups.items() if "features" in group}
        if frames is not None and not 1 <= frames <= length:
            raise InputError(f"frames is {frames}, but the videos of {path} have {length}; set 1 to {length}")
        self.num_frames = frames or length

    def _check(self, file: h5py.File) -> int:
        """The length of the videos."""
        if self._group not in file:
            raise InputError(f"{self.path} has no group {self._group!r}; it has {', '.join(file) or 'none at all'}")
        group = file[self._group]
        for name in ("features", "groups"):
            if name not in group:
                raise InputError(
                    f"group {self._group!r} of {self.path} has no {name!r}, only {', '.join(group)}; "
                    "it is not a file of Relational N-EM's bouncing balls"
                )
            shape = group[name].shape
            if len(shape) != 5 or shape[-1] != 1 or shape != group["features"].shape:
                raise InputError(
                    f"{name!r} in group {self._group!r} of {self.path} has shape {shape}; expected time first, "
                    "(T, N, H, W, 1), for features and groups alike"
                )
        return group["features"].shape[0]

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self.batch_clips(indices, [0] * len(indices), self.num_frames)

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        mask = self._ids(indices, starts, frames)
        if self._palette is None:
            image = torch.from_numpy(self._read("features", indices, starts, frames)).float()[:, :, None]
            image = image.repeat(1, 1, self._channels, 1, 1)
        else:
            image = self._palette[mask.long()].movedim(-1, 2).contiguous()
        scenes = {"image": image, "mask": mask, "visibility": visible_ids(mask, MAX_BALLS + 1)}
        if self.collisions:
            scenes["collision"] = torch.from_numpy(self._read("collisions", indices, starts, frames) != 0)
        return scenes

    def _ids(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Tensor:
        ids = self._read("groups", indices, starts, frames)
        if ids.min() < 0 or ids.max() > MAX_BALLS or (ids != ids.astype(np.uint8)).any():
            raise InputError(
                f"'groups' in group {self._group!r} of {self.path} has values from {ids.min()} to {ids.max()} "
                f"that are no ids from 0 to {MAX_BALLS}; it is not a file of Relational N-EM's bouncing balls"
            )
        return torch.from_numpy(ids.astype(np.uint8))

    def _read(self, name: str, indices: Sequence[int], starts: Sequence[int], frames: int) -> np.ndarray:
        """(B, T, H, W) of a member; the file is opened for every batch, as no handle survives fork or pickling."""
        with opened(self.path) as file:
            if name not in file[self._group]:
                raise InputError(
                    f"group {self._group!r} of {self.path} has no {name!r}, only {', '.join(file[self._group])}; "
                    "leave the option collisions out"
                )
            member, spans = file[self._group][name], zip(indices, starts, strict=True)
            return np.stack([member[start : start + frames, int(index), ..., 0] for index, start in spans])
