"""Parts: HDF5 files with some consecutive scenes of one split, which say themselves what they hold.

The layout is that of `unscene.data.hdf5`, with one chunk per frame or view, so that these can be read alone. Attributes
of the file: ``settings`` (`Manifest.settings`), ``first`` (index of the first scene), ``pixels`` and ``labels``
(`digest`), ``files`` (JSON, {path: SHA-256} of the files beside the scenes).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np

from unscene.data.hdf5 import LAYOUT, VERSION, opened, to_arrays
from unscene.data.manifest import PARTS, Block, Manifest, Record
from unscene.errors import InputError
from unscene.files import replacing
from unscene.scenes import Scenes

Arrays = dict[str, np.ndarray]  # (S, ...) by their names within the group of the split, such as factors/color


@dataclass(frozen=True)
class Piece:
    """Scenes from number ``first`` of a split on."""

    first: int
    arrays: Arrays
    files: dict[str, str] = field(default_factory=dict)  # {path: SHA-256} of what lies beside them

    def __len__(self) -> int:
        return len(self.arrays["image"])


def to_piece(first: int, scenes: Scenes) -> Piece:
    """A batch of consecutive scenes as it is stored: images as bytes, everything else that they have as it is."""
    return Piece(first, to_arrays(scenes))


def join(pieces: list[Piece]) -> Piece:
    """Pieces that follow each other as one."""
    names = pieces[0].arrays
    arrays = {name: np.concatenate([piece.arrays[name] for piece in pieces]) for name in names}
    return Piece(pieces[0].first, arrays, {path: hash_ for piece in pieces for path, hash_ in piece.files.items()})


def digest(arrays: Arrays) -> Record:
    """SHA-256 of pixels: of each scene in turn the bytes of its image (H, W, C) and its label map; and of the rest."""
    pixels, labels = hashlib.sha256(), hashlib.sha256()
    for scene in zip(*(arrays[name] for name in ("image", "mask") if name in arrays), strict=True):
        for array in scene:
            pixels.update(np.ascontiguousarray(array))
    for name in sorted(arrays.keys() - {"image", "mask"}):
        labels.update(name.encode())
        labels.update(np.ascontiguousarray(arrays[name]))
    return Record(len(arrays["image"]), pixels.hexdigest(), labels.hexdigest())


def write_part(path: Path, split: str, piece: Piece, settings: str) -> None:
    """Write it whole or not at all. Raises InputError if that is impossible, as on a full disk."""
    record, buffer = digest(piece.arrays), io.BytesIO()  # in memory: HDF5 itself crashes when it cannot write
    size = piece.arrays["image"].shape[-3:-1]
    with h5py.File(buffer, "w") as file:
        file.attrs.update(layout=LAYOUT, version=VERSION, settings=settings, first=piece.first)
        file.attrs.update(pixels=record.pixels, labels=record.labels, files=json.dumps(piece.files))
        for name, array in sorted(piece.arrays.items()):  # in one order: the same scenes make the same file
            chunk = array.shape[-3:] if name == "image" else array.shape[-2:]
            per_pixel = array.itemsize == 1 and (name == "image" or chunk == size)
            chunks = (*[1] * (array.ndim - len(chunk)), *chunk)
            packed = {"chunks": chunks, "compression": "gzip"} if per_pixel else {}
            file.create_dataset(f"{split}/{name}", data=array, **packed)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_record(path: Path, split: str) -> Record:
    """What the part says of itself."""
    with opened_part(path, split) as group:
        return Record(len(group["image"]), group.file.attrs["pixels"], group.file.attrs["labels"])


def read_part(path: Path, split: str, settings: str) -> Piece:
    """Raises InputError if the file is damaged, is no part of this split, or was made with other settings."""
    with opened_part(path, split, settings) as group:
        arrays = {name: member[()] for name, member in members(group).items()}
        return Piece(int(group.file.attrs["first"]), arrays, json.loads(group.file.attrs["files"]))


@contextmanager
def opened_part(path: Path, split: str, settings: str | None = None) -> Iterator[h5py.Group]:
    """The group of its split, for reading."""
    with opened(path) as file:
        if split not in file or "image" not in file[split] or "settings" not in file.attrs:
            raise InputError(f"{path} is no part of generated scenes of split {split!r}; delete it")
        if settings is not None and file.attrs["settings"] != settings:
            raise InputError(
                f"{path} was made with another seed, options or renderer than the manifest beside it says; delete it, "
                "and have it made again"
            )
        yield file[split]


def members(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """{name: data set}, factors as factors/name."""
    plain = {name: member for name, member in group.items() if name != "factors"}
    return plain | {f"factors/{name}": member for name, member in group.get("factors", {}).items()}


def scenes_in_place(root: Path, manifest: Manifest, split: str) -> dict[Block, int]:
    """Of every block of the split how many scenes its part has: none, all, or some where fewer were once asked for."""
    there = {path.name for path in (root / PARTS).glob(f"{split}-*.h5")}

    def count(block: Block) -> int:
        known = manifest.parts.get(block.name)
        if block.name not in there or known is not None and known.scenes == len(block):
            return len(block) if block.name in there else 0
        with opened_part(root / PARTS / block.name, split, manifest.settings) as group:
            return len(group["image"])

    return {block: count(block) for block in manifest.blocks(split)}


def with_records(root: Path, manifest: Manifest) -> Manifest:
    """The manifest, with the records of all parts that are in place."""
    records = {}
    for split in manifest.splits:
        for block, scenes in scenes_in_place(root, manifest, split).items():
            known = manifest.parts.get(block.name)
            if known is not None and known.scenes == scenes:
                records[block.name] = known
            elif scenes:
                records[block.name] = read_record(root / PARTS / block.name, split)
    return replace(manifest, parts=records)
