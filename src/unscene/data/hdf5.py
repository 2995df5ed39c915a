"""Scenes in HDF5 files: our layout, written and read, and the EfficientMORL release, read.

Our layout, version 1 (file attributes ``layout`` = "unscene" and ``version``), one group per split:

==================  ======================================================================
``image``           (S, [T or V,] H, W, C) uint8, one compressed chunk per scene
``mask``            (S, [T or V,] H, W) uint8 label map, one compressed chunk per scene
``factors/<name>``  (S, N, ...)
``visibility``      (S, N) bool
``viewpoint``       (S, V, P)
==================  ======================================================================

The release of Emami et al. (2021, https://github.com/pemami4911/EfficientMORL) has groups train, val and
test with ``imgs`` (S, H, W, C), ``masks`` (S, N, H, W, 1), 255 where an entity is, and ``factors``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from unscene.data.dataset import SceneDataset, collate
from unscene.data.files import replacing
from unscene.data.preprocess import crop_clevr, image_to_pixels, masks_to_label_map, pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

LAYOUT, VERSION = "unscene", 1
BATCH = 64  # scenes converted at once by save_hdf5
CLEVR_SHAPE = (240, 320, 3)  # the release keeps CLEVR uncropped


def save_hdf5(
    datasets: dict[str, SceneDataset],
    path: str | Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write the splits ``datasets`` {name: scenes} to ``path``, whole or not at all.

    Images are rounded to bytes (exact for whatever came from bytes). ``progress(split, done, total)``
    is called after each batch. Raises InputError if there is nothing to write, an id in a label map does
    not fit into a byte, or the folder cannot be written to.
    """
    path = Path(path)
    empty = [split for split, dataset in datasets.items() if len(dataset) == 0]
    if empty or not datasets:
        raise InputError(f"nothing to write to {path}: " + (f"split {empty[0]!r} is empty" if empty else "no splits"))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(layout=LAYOUT, version=VERSION)
        for split, dataset in datasets.items():
            _write_split(file.create_group(split), dataset, progress)


def _write_split(group: h5py.Group, dataset: SceneDataset, progress: Callable[[str, int, int], None] | None) -> None:
    total = len(dataset)
    for start in range(0, total, BATCH):
        stop = min(start + BATCH, total)
        for name, array in _to_arrays(dataset.batch(range(start, stop))).items():
            if name not in group:
                images = {"chunks": (1, *array.shape[1:]), "compression": "gzip"} if name in ("image", "mask") else {}
                group.create_dataset(name, shape=(total, *array.shape[1:]), dtype=array.dtype, **images)
            group[name][start:stop] = array
        if progress is not None:
            progress(group.name.strip("/"), stop, total)


def _to_arrays(scenes: Scenes) -> dict[str, np.ndarray]:
    """What is stored of a batch, by its name within the group of the split."""
    arrays = {f"factors/{name}": factor.numpy() for name, factor in scenes.get("factors", {}).items()}
    arrays |= {name: scenes[name].numpy() for name in ("mask", "visibility", "viewpoint") if name in scenes}
    if "mask" in arrays:
        if arrays["mask"].min() < 0 or arrays["mask"].max() > 255:
            raise InputError("a label map has ids outside 0 to 255, which HDF5 files here cannot hold; renumber them")
        arrays["mask"] = arrays["mask"].astype(np.uint8)
    return arrays | {"image": image_to_pixels(scenes["image"]).numpy()}


class HDF5Scenes(SceneDataset):
    """The scenes of one split of an HDF5 file, images or videos.

    Yields what the file has of ``image``, ``mask``, ``factors``, ``visibility`` and ``viewpoint``; of the
    EfficientMORL release ``image``, ``mask`` and ``factors`` ({name: ...}, or {"factors": ...} if they are
    one array). CLEVR in that release is 240 x 320 and goes through `crop_clevr`.
    Raises InputError if the file is missing, no HDF5, of no known layout, or lacks the split.
    """

    def __init__(self, path: str | Path, split: str = "train", grayscale: bool = False) -> None:
        self.path, self.split, self.grayscale = Path(path), split, grayscale
        if not self.path.is_file():
            raise InputError(f"HDF5 file {path} does not exist")
        if not h5py.is_hdf5(self.path):
            raise InputError(f"{path} is not an HDF5 file, or it is damaged")
        with h5py.File(self.path) as file:
            self._read, self._num_scenes = self._inspect(file)

    def _inspect(self, file: h5py.File) -> tuple[Callable[[h5py.Group, int], dict[str, Any]], int]:
        """The reader of a scene and their number."""
        splits = [name for name, member in file.items() if isinstance(member, h5py.Group)]
        if self.split not in splits:
            raise InputError(
                f"{self.path} has no split {self.split!r}; it has {', '.join(splits) or 'no groups at all'}"
            )
        if file.attrs.get("layout") == LAYOUT and file.attrs["version"] > VERSION:
            raise InputError(
                f"{self.path} is of a newer version {file.attrs['version']} than {VERSION}; update unscene"
            )
        for name, read in (("image", _read_own), ("imgs", _read_release)):
            if name in file[self.split]:
                return read, len(file[self.split][name])
        raise InputError(f"group {self.split!r} of {self.path} has neither 'image' nor 'imgs': not a known layout")

    def __len__(self) -> int:
        return self._num_scenes

    def batch(self, indices: Sequence[int]) -> Scenes:
        # opened for every batch (under a millisecond): an HDF5 handle survives neither fork nor pickling
        with h5py.File(self.path) as file:
            return collate([self._to_scene(self._read(file[self.split], int(index))) for index in indices])

    def _to_scene(self, arrays: dict[str, Any]) -> Scenes:
        scene: Scenes = {name: torch.as_tensor(array) for name, array in arrays.items() if name != "factors"}
        scene["image"] = pixels_to_image(scene["image"], self.grayscale)
        if "factors" in arrays:
            scene["factors"] = {name: torch.as_tensor(factor) for name, factor in arrays["factors"].items()}
        return scene


def _read_own(group: h5py.Group, index: int) -> dict[str, Any]:
    return {
        name: {factor: values[index] for factor, values in member.items()} if name == "factors" else member[index]
        for name, member in group.items()
    }


def _read_release(group: h5py.Group, index: int) -> dict[str, Any]:
    pixels, mask = group["imgs"][index].astype(np.uint8), None
    if "masks" in group:
        mask = masks_to_label_map(group["masks"][index][..., 0], entity_axis=-3)
    if pixels.shape == CLEVR_SHAPE:
        pixels, mask = crop_clevr(pixels, mask)
    arrays = {"image": pixels} | ({} if mask is None else {"mask": mask})
    if "factors" in group:
        factors = group["factors"]
        members = factors if isinstance(factors, h5py.Group) else {"factors": factors}
        arrays["factors"] = {name: values[index] for name, values in members.items()}
    return arrays
