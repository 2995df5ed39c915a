"""GQNScenes: the multi-view scenes of Generative Query Networks, as TFRecord files or as MulMON's HDF5 files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from unscene.data.dataset import SceneDataset
from unscene.data.gqn_files import HDF5Views, RecordViews
from unscene.data.hdf5 import opened
from unscene.data.preprocess import pixels_to_image, to_grayscale
from unscene.data.tfrecord import FILE_NAME
from unscene.errors import InputError
from unscene.scenes import Scenes

SPLITS = ("train", "val", "test")
OFFICIAL = re.compile(r"\d+-of-\d+\.tfrecord$")
HDF5 = {".h5", ".hdf5"}


def is_gqn(path: Path) -> bool:
    """Whether it is one of these files, or a folder with them, by members of HDF5 and by official TFRecord names."""
    files = [file for files in find_splits(path).values() for file in files] if path.exists() else []
    if files and files[0].suffix in HDF5:
        return _has_views(files[0])
    return bool(files) and OFFICIAL.match(files[0].name) is not None


class GQNScenes(SceneDataset):
    """Scenes of V views with their viewpoints; there are no labels.

    ``path``: the folder of gqn_jaco_train.h5 and gqn_jaco_test.h5; a folder with the folders train and test of
    TFRecord files such as 0001-of-3600.tfrecord, or one of these; or a file. A file or folder whose name tells its
    split has only that; others are taken for whatever ``split`` is.

    ``image`` (V, 3, H, W), (V, 1, H, W) with ``grayscale``; ``viewpoint`` (V, 7): x, y, z, sin yaw, cos yaw, sin pitch
    and cos pitch. ``views``: the first so many of each scene; None takes all. ``limit`` keeps the first scenes.

    TFRecord files must not be compressed, which the published ones are not; where their records begin is looked up
    at the start, in all files unless there is a ``limit``. Frames are decoded when read.

    Raises InputError for missing, damaged and foreign files, for viewpoints of another length, for more ``views`` than
    there are, and for a split that is not there.

    Source: Eslami et al. (2018), https://github.com/google-deepmind/gqn-datasets; the HDF5 files of MulMON (Li et al.,
    2020), https://github.com/NanboLi/MulMON. Both layouts are taken from what their readers expect, not from the files.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        views: int | None = None,
        limit: int | None = None,
        grayscale: bool = False,
    ) -> None:
        if limit is not None and limit < 1:
            raise InputError(f"limit is {limit}; read at least 1 scene, or all with None")
        self.path, self.split, self.limit, self.grayscale = Path(path), split, limit, grayscale
        self._files = find_splits(self.path, unnamed=split)
        if split not in self._files:
            known = f"it has {', '.join(self._files)}" if self._files else "there are no .h5 and no .tfrecord files"
            raise InputError(f"{self.path} has no split {split!r} of GQN's scenes; {known}")
        files = self._files[split]
        self._source = HDF5Views(files[0]) if files[0].suffix in HDF5 else RecordViews(files, limit)
        if views is not None and not 1 <= views <= self._source.num_views:
            raise InputError(
                f"views is {views}, but the scenes of {self.path} have {self._source.num_views}; "
                f"set 1 to {self._source.num_views}"
            )
        self.num_views = views or self._source.num_views

    def __len__(self) -> int:
        return min(self._source.num_scenes, self.limit or self._source.num_scenes)

    @property
    def splits(self) -> dict[str, int]:
        """Of HDF5 files all; of TFRecord files the one looked at."""
        if isinstance(self._source, RecordViews):
            return {self.split: self._source.num_scenes}
        return {split: HDF5Views(files[0]).num_scenes for split, files in self._files.items()}

    @property
    def view_counts(self) -> Sequence[int]:
        return [self.num_views] * len(self)

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self._read(indices, [range(self.num_views)] * len(indices))

    def batch_views(self, indices: Sequence[int], views: Sequence[int]) -> Scenes:
        scenes = self._read(indices, [range(view, view + 1) for view in views])
        return {name: value[:, 0] for name, value in scenes.items()}

    def _read(self, indices: Sequence[int], views: Sequence[range]) -> Scenes:
        scenes = [self._source.read(int(index), chosen) for index, chosen in zip(indices, views, strict=True)]
        pixels, viewpoint = (torch.from_numpy(np.stack(parts)) for parts in zip(*scenes, strict=True))
        if pixels.dtype == torch.uint8:
            return {"image": pixels_to_image(pixels, self.grayscale), "viewpoint": viewpoint}
        image = pixels.movedim(-1, -3).float()
        low, high = image.aminmax()
        if not (low >= 0 and high <= 1):
            raise InputError(
                f"the images of {self.path} have values from {low:.4g} to {high:.4g}; expected bytes, or numbers "
                "from 0 to 1"
            )
        return {"image": to_grayscale(image) if self.grayscale else image, "viewpoint": viewpoint}


def find_splits(path: Path, unnamed: str = "train") -> dict[str, list[Path]]:
    """{split: its files} of a file or folder, {} if there are none; ``unnamed``: of what tells no split by its name."""
    if path.is_file():
        return {_split_of(path) or unnamed: [path]}
    found = {}
    for split in SPLITS:
        files = sorted(file for suffix in HDF5 for file in path.glob(f"*_{split}{suffix}"))
        if files := files or _records(path / split):
            found[split] = files
    if not found and (files := _records(path)):
        found[path.name if path.name in SPLITS else unnamed] = files
    return found


def _split_of(file: Path) -> str | None:
    """By the end of the name of an HDF5 file, and by the folder of a TFRecord file."""
    name = file.stem.rsplit("_", 1)[-1] if file.suffix in HDF5 else file.parent.name
    return name if name in SPLITS else None


def _records(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if FILE_NAME.search(file.name)) if folder.is_dir() else []


def _has_views(file: Path) -> bool:
    if not (file.is_file() and h5py.is_hdf5(file)):
        return False
    with opened(file) as members:
        return "images" in members and "viewpoints" in members
