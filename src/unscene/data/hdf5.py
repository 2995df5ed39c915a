"""Scenes in HDF5 files: our layout, written and read, and the EfficientMORL release, read.

Our layout, version 1 (file attributes ``layout`` = "unscene" and ``version``), one group per split:

==================  ======================================================================
``image``           (S, [T or V,] H, W, C) uint8, one compressed chunk per scene
``mask``            (S, [T or V,] H, W) uint8 label map, one compressed chunk per scene
``factors/<name>``  (S, N, ...)
``visibility``      (S, N) bool
``viewpoint``       (S, V, P)
``collision``       (S, T, H, W) bool, one compressed chunk per scene
any other name      (S, ...), what else the data has; ``background`` like ``mask``
==================  ======================================================================

The release of Emami et al. (2021, https://github.com/pemami4911/EfficientMORL) has groups train, val and
test with ``imgs`` (S, H, W, C), ``masks`` (S, N, H, W, 1), 255 where an entity is, and ``factors``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from unscene.data.batches import batches
from unscene.data.dataset import SceneDataset, StoredScenes, collate
from unscene.data.preprocess import crop_clevr, image_to_pixels, masks_to_label_map, pixels_to_image
from unscene.errors import InputError
from unscene.files import replacing
from unscene.scenes import Scenes

LAYOUT, VERSION = "unscene", 1
PER_PIXEL = ("image", "mask", "collision", "background")
CLEVR_SHAPE = (240, 320, 3)  # the release keeps CLEVR uncropped


def save_hdf5(
    datasets: dict[str, SceneDataset],
    path: str | Path,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write the splits ``datasets`` {name: scenes} to ``path``, whole or not at all.

    Images are rounded to bytes (exact for whatever came from bytes). ``progress(split, done, total)``
    is called after each batch. Missing folders are made. Raises InputError if there is nothing to write, an id in a
    label map does not fit into a byte, or the file cannot be written, as on a full disk.
    """
    path = Path(path)
    empty = [split for split, dataset in datasets.items() if len(dataset) == 0]
    if empty or not datasets:
        raise InputError(f"nothing to write to {path}: " + (f"split {empty[0]!r} is empty" if empty else "no splits"))
    with replacing(path) as temporary, _OutputFile(temporary, "w+") as output, h5py.File(output, "w") as file:
        file.attrs.update(layout=LAYOUT, version=VERSION)
        for split, dataset in datasets.items():
            for done in _write_split(file.create_group(split), dataset):
                output.check()
                if progress is not None:
                    progress(split, done, len(dataset))


class _OutputFile(io.FileIO):
    """A file that tells of a failed write when asked, or when closed: HDF5 itself crashes when it cannot write."""

    error: OSError | None = None

    def write(self, data: Any) -> int:  # anything with a buffer
        rest = memoryview(data)
        try:
            while rest and self.error is None:  # the system may take only a part
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.check()


def _write_split(group: h5py.Group, dataset: SceneDataset) -> Iterator[int]:
    """Write it batch by batch; yields the number of scenes written."""
    done, total = 0, len(dataset)
    for indices, batch in batches(dataset, total):
        for name, array in to_arrays(batch).items():
            if name not in group:
                packed = {"chunks": (1, *array.shape[1:]), "compression": "gzip"} if name in PER_PIXEL else {}
                group.create_dataset(name, shape=(total, *array.shape[1:]), dtype=array.dtype, **packed)
            group[name][done : done + len(array)] = array
        yield (done := indices.stop)


def to_arrays(scenes: Scenes) -> dict[str, np.ndarray]:
    """What is stored of a batch, by its name within the group of the split."""
    arrays = {f"factors/{name}": factor.numpy() for name, factor in scenes.get("factors", {}).items()}
    arrays |= {name: value.numpy() for name, value in scenes.items() if name not in ("image", "factors")}
    if "mask" in arrays:
        if arrays["mask"].min() < 0 or arrays["mask"].max() > 255:
            raise InputError("a label map has ids outside 0 to 255, which HDF5 files here cannot hold; renumber them")
        arrays["mask"] = arrays["mask"].astype(np.uint8)
    return arrays | {"image": image_to_pixels(scenes["image"]).numpy()}


class HDF5Scenes(StoredScenes):
    """The scenes of one split of an HDF5 file, images or videos.

    Yields what the file has; of the EfficientMORL release ``image``, ``mask`` and ``factors`` ({name: ...}, or
    {"factors": ...} if they are one array). CLEVR in that release is 240 x 320 and goes through `crop_clevr`.
    ``splits`` {name: number of scenes} lists all of the file.
    Raises InputError if the file is missing, no HDF5, truncated, of no known layout, or lacks the split.
    """

    def __init__(self, path: str | Path, split: str = "train", grayscale: bool = False) -> None:
        self.path, self.split, self.grayscale = Path(path), split, grayscale
        check_hdf5(self.path)
        with opened(self.path) as file:
            self._sizes = _sizes(file)
            self._read = self._find_reader(file)

    def _find_reader(self, file: h5py.File) -> Callable[[h5py.Group, int], dict[str, Any]]:
        """The reader of a scene."""
        if self.split not in self._sizes:
            raise InputError(
                f"{self.path} has no split {self.split!r}; it has {', '.join(self._sizes) or 'no groups at all'}"
            )
        if file.attrs.get("layout") == LAYOUT and file.attrs["version"] > VERSION:
            raise InputError(
                f"{self.path} is of a newer version {file.attrs['version']} than {VERSION}; update unscene"
            )
        for name, read in (("image", _read_own), ("imgs", _read_release)):
            if name in file[self.split]:
                return read
        raise InputError(f"group {self.split!r} of {self.path} has neither 'image' nor 'imgs': not a known layout")

    def batch(self, indices: Sequence[int]) -> Scenes:
        # opened for every batch (under a millisecond): an HDF5 handle survives neither fork nor pickling
        with opened(self.path) as file:
            return collate([self._to_scene(self._read(file[self.split], int(index))) for index in indices])

    def _to_scene(self, arrays: dict[str, Any]) -> Scenes:
        scene: Scenes = {name: torch.as_tensor(array) for name, array in arrays.items() if name != "factors"}
        scene["image"] = pixels_to_image(scene["image"], self.grayscale)
        if "factors" in arrays:
            scene["factors"] = {name: torch.as_tensor(factor) for name, factor in arrays["factors"].items()}
        return scene


def check_hdf5(path: Path) -> None:
    """Raise InputError unless there is an HDF5 file at ``path``."""
    if not path.is_file():
        raise InputError(f"HDF5 file {path} does not exist")
    if not h5py.is_hdf5(path):
        raise InputError(f"{path} is not an HDF5 file, or it is damaged")


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, for reading; whatever goes wrong while it is open is an InputError."""
    try:
        with h5py.File(path) as file:
            yield file
    except (OSError, RuntimeError) as error:  # what HDF5's own complaints become
        raise InputError(f"cannot read {path}: {error}; if it is damaged or truncated, make or get it again") from error


def _sizes(file: h5py.File) -> dict[str, int]:
    """{split: number of scenes}, 0 for a group of no known layout."""
    groups = {name: group for name, group in file.items() if isinstance(group, h5py.Group)}
    return {name: len(group.get("image", group.get("imgs", ()))) for name, group in groups.items()}


def _read_own(group: h5py.Group, index: int) -> dict[str, Any]:
    arrays = {name: member[index] for name, member in group.items() if name != "factors"}
    if "factors" in group:  # the first files had the visibility among them too
        arrays["factors"] = {name: v[index] for name, v in group["factors"].items() if name != "visibility"}
    return arrays


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
