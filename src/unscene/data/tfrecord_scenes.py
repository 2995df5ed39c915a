"""TFRecordScenes: the files of the Multi-Object Datasets as a map-style dataset."""

from __future__ import annotations

import glob
import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from unscene.data.dataset import SceneDataset
from unscene.data.example import parse_example
from unscene.data.multi_object import LAYOUTS, decode_scene, find_layout
from unscene.data.preprocess import pixels_to_image
from unscene.data.tfrecord import FILE_NAME, read_records
from unscene.errors import InputError
from unscene.files import replacing
from unscene.progress import progress
from unscene.scenes import Scenes

CACHE_VERSION = 1
SHOWN_EVERY = 100  # scenes
NUM_TRAIN, NUM_TRAIN_FILTERED, NUM_TEST = 60_000, 50_000, 320


class TFRecordScenes(SceneDataset):
    """Scenes of an official TFRecord file.

    ``kind`` and ``variant``: tetrominoes; multi_dsprites with binarized, colored_on_grayscale or
    colored_on_colored; clevr_with_masks; objects_room with train, six_objects, empty_room or
    identical_color; cater_with_masks. ``path``: the file, a folder of shards or a glob pattern.

    ``image`` (C, H, W), for CATER (33, 3, 64, 64); ``mask`` ([33,] H, W) uint8; ``factors`` as stored,
    one row per entity (``object_positions`` (11, 33, 3)); ``visibility`` as stored or, where a file has
    none, whether the id has a pixel. Ids are the stored order of the entities, 0 the background; sky, floor
    and the two wall halves of objects_room all become 0. CLEVR is cropped and resized by
    `crop_clevr`; ``max_objects=6`` keeps the scenes of CLEVR6. The camera of CATER is not read.

    ``split``: in the order of the file, "train" is the first 60,000 scenes (50,000 with
    ``max_objects``), "test" the next 320 and "val" 320 more; a slice selects others; None all. Files that
    are one split by name (the shards of CATER, the test variants of objects_room) are not divided.
    ``limit`` keeps the first scenes of the split.

    GZIP cannot be read at random, so the scenes needed are decoded once to a file in ``cache_dir`` (by
    default the folder of the source; delete it at will) that later runs, workers and ranks map into
    memory. It takes ``H * W * (C + 1)`` bytes per scene and frame: 1 GB for Multi-dSprites, 3.3 GB for
    CLEVR6, in memory only as far as the system can spare it.

    Raises InputError for missing, truncated, damaged or foreign files, for a wrong kind, and for an
    empty selection.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        variant: str | None = None,
        split: str | slice | None = None,
        limit: int | None = None,
        grayscale: bool = False,
        max_objects: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        name = find_layout(kind, variant)
        self.grayscale, self._layout = grayscale, LAYOUTS[name]
        files = _source_files(Path(path), split if name == "cater_with_masks" else None)
        splits = _splits(name, filtered=max_objects is not None)
        wanted, decoded = _select(splits, split, limit)
        directory = files[0].parent if cache_dir is None else Path(cache_dir)
        self._cache = _decode_once(files, name, decoded, max_objects, directory)
        scenes = range(self._cache.stat().st_size // self._layout.record.itemsize)
        self._range = scenes[wanted]
        by_file = name == "cater_with_masks"  # then only one split was looked at
        self._sizes = {part: len(scenes[splits[part]]) for part in splits if part == split or not by_file}
        if not self._range:
            raise InputError(f"no scenes are left of {path} with split={split!r}, limit={limit}; it is too short")

    def __len__(self) -> int:
        return len(self._range)

    @property
    def splits(self) -> dict[str, int]:
        """Of the scenes decoded so far: of all, or of the first train, test and val scenes, unless limited."""
        return {split: size for split, size in self._sizes.items() if size}

    def batch(self, indices: Sequence[int]) -> Scenes:
        # mapped anew for every batch (microseconds), so that nothing needs care when workers fork or unpickle
        records = np.memmap(self._cache, dtype=self._layout.record, mode="r")
        records = records[[self._range[index] for index in indices]]
        tensors = {name: torch.from_numpy(records[name].copy()) for name in ("image", "mask", "visibility")}
        scenes: Scenes = tensors | {"image": pixels_to_image(tensors["image"], self.grayscale)}
        if self._layout.factors:
            factors = records["factors"]
            scenes["factors"] = {name: torch.from_numpy(factors[name].copy()) for name in factors.dtype.names}
        return scenes


def _source_files(path: Path, split: str | slice | None) -> list[Path]:
    """The file, or the shards in a folder or of a pattern, in order; only those of ``split`` if it is a name."""
    if path.is_file():
        return [path]
    candidates = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    files = sorted(file for file in candidates if FILE_NAME.search(file.name))
    if isinstance(split, str):
        files = [file for file in files if f"_{split}." in file.name]
    if not files:
        raise InputError(f"there is no TFRecord file at {path}" + (f" for the split {split!r}" if split else ""))
    return files


def _splits(name: str, filtered: bool) -> dict[str, slice]:
    whole = slice(None)
    if name == "cater_with_masks":
        return {"train": whole, "test": whole}  # told apart by file name
    if name.startswith("objects_room") and name != "objects_room/train":
        return {"test": whole}
    train = NUM_TRAIN_FILTERED if filtered else NUM_TRAIN
    test = train + NUM_TEST
    return {"train": slice(0, train), "test": slice(train, test), "val": slice(test, test + NUM_TEST)}


def _select(splits: dict[str, slice], split: str | slice | None, limit: int | None) -> tuple[slice, int | None]:
    """The scenes to use and how many to decode: for a whole named split, enough for its siblings too."""
    if isinstance(split, str) and split not in splits:
        raise InputError(f"there is no split {split!r} of this data set; choose one of {', '.join(splits)}")
    wanted = splits[split] if isinstance(split, str) else split or slice(None)
    start, stop = wanted.start or 0, wanted.stop
    if wanted.step is not None or start < 0 or (stop or 0) < 0 or (limit is not None and limit < 1):
        raise InputError(f"cannot select {split}, limit={limit}; slices count from 0 without step, limit from 1")
    if limit is not None:
        stop = start + limit if stop is None else min(stop, start + limit)
    elif isinstance(split, str) and stop is not None:
        return wanted, max(sibling.stop for sibling in splits.values())
    return slice(start, stop), stop


def _decode_once(files: list[Path], name: str, count: int | None, max_objects: int | None, directory: Path) -> Path:
    """The file in ``directory`` with at least the first ``count`` decoded scenes, made if it is not there."""
    sources = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(repr((CACHE_VERSION, sources, name, max_objects)).encode()).hexdigest()[:16]
    stem = f"{files[0].name}.{key}"
    for cache in sorted(directory.glob(f"{glob.escape(stem)}.*.scenes")):
        held = cache.name.split(".")[-2]
        if float("inf" if held == "all" else held) >= (math.inf if count is None else count):
            return cache
    cache = directory / f"{stem}.{'all' if count is None else count}.scenes"
    with replacing(cache) as temporary, temporary.open("wb") as out:
        number = 0
        for number, scene in enumerate(islice(_decoded_scenes(files, name, max_objects), count), start=1):
            out.write(scene.tobytes())
            if number % SHOWN_EVERY == 0:
                progress(f"decoding {files[0].name}:", number, count)
        progress(f"decoding {files[0].name}:", number, number)
    return cache


def _decoded_scenes(files: list[Path], name: str, max_objects: int | None) -> Iterator[np.ndarray]:
    for file in files:
        for number, payload in enumerate(read_records(file)):
            try:
                scene = decode_scene(parse_example(payload), LAYOUTS[name])
            except InputError as error:
                raise InputError(f"{file} does not hold {name}: in record {number}, {error}") from None
            if max_objects is None or scene["visibility"][1:].sum() <= max_objects:
                yield scene
