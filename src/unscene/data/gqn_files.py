"""The two kinds of files that hold scenes of Generative Query Networks, read view by view."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from unscene.data.example import parse_example
from unscene.data.hdf5 import check_hdf5, opened
from unscene.data.tfrecord import read_record, record_offsets
from unscene.data.viewpoints import POSE, expand_poses
from unscene.errors import InputError
from unscene.progress import progress

NUMBERS = 7  # of a viewpoint


class HDF5Views:
    """An HDF5 file with ``images`` (S, V, H, W, 3), bytes or numbers from 0 to 1, and ``viewpoints`` (S, V, 7)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_hdf5(path)
        with opened(path) as file:
            for name in ("images", "viewpoints"):
                if not isinstance(file.get(name), h5py.Dataset):
                    known = ", ".join(file) or "nothing"
                    raise InputError(f"{path} has no {name!r}, only {known}; it does not hold GQN's scenes")
            images, viewpoints = file["images"], file["viewpoints"]
            if (images.dtype != np.uint8 and images.dtype.kind != "f") or images.ndim != 5 or images.shape[-1] != 3:
                raise InputError(
                    f"'images' of {path} are {images.dtype} of shape {images.shape}; expected bytes (S, V, H, W, 3)"
                )
            if viewpoints.shape != (*images.shape[:2], NUMBERS):
                raise InputError(
                    f"'viewpoints' of {path} have shape {viewpoints.shape}; expected {NUMBERS} numbers for each of the "
                    f"{images.shape[1]} views of {images.shape[0]} scenes: {(*images.shape[:2], NUMBERS)}"
                )
            self.num_scenes, self.num_views = images.shape[:2]

    def read(self, index: int, views: range) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (V, H, W, 3) as stored, and viewpoints (V, 7) float32, of some views of a scene."""
        chosen = slice(views.start, views.stop)
        with opened(self.path) as file:  # anew each time: an HDF5 handle survives neither fork nor pickling
            return file["images"][index, chosen], file["viewpoints"][index, chosen].astype(np.float32)


class RecordViews:
    """TFRecord files; in each record ``frames``, which are JPEG files, and ``cameras``: x, y, z, yaw, pitch of each."""

    def __init__(self, files: Sequence[Path], limit: int | None) -> None:
        self.files = list(files)
        numbers, offsets = [], []
        for number, file in enumerate(files):
            if len(offsets) == limit:
                break
            offsets += (found := record_offsets(file, None if limit is None else limit - len(offsets)))
            numbers += [number] * len(found)
            progress("indexing TFRecord files:", number, len(files))
        progress("indexing TFRecord files:", len(files), len(files))
        self._numbers, self._offsets = np.array(numbers, np.int32), np.array(offsets, np.int64)  # smaller than lists
        self.num_scenes = len(offsets)
        frames, _ = self._parse(0)
        self.num_views, self._size = len(frames), self._decode(frames[0], 0).shape

    def read(self, index: int, views: range) -> tuple[np.ndarray, np.ndarray]:
        """As `HDF5Views.read`."""
        frames, cameras = self._parse(index)
        if len(frames) != self.num_views:
            raise InputError(
                f"{self._name(index)} has {len(frames)} frames, the first scene {self.num_views}; "
                "read the files of one data set at a time"
            )
        pixels = [self._decode(frames[view], index) for view in views]
        for frame in pixels:
            if frame.shape != self._size:
                raise InputError(
                    f"{self._name(index)} has a frame of {frame.shape[0]} x {frame.shape[1]} pixels, the first scene "
                    f"of {self._size[0]} x {self._size[1]}; all views must have the same size"
                )
        return np.stack(pixels), expand_poses(cameras[views.start : views.stop])

    def _parse(self, index: int) -> tuple[list[bytes], np.ndarray]:
        """Frames, and cameras (V, 5), of a scene."""
        payload = read_record(self.files[self._numbers[index]], int(self._offsets[index]))
        try:
            example = parse_example(payload, strings=("frames",))
        except InputError as error:
            raise InputError(f"{self._name(index)} cannot be read: {error}") from None
        if missing := {"frames", "cameras"} - example.keys():
            known = ", ".join(sorted(example)) or "nothing"
            raise InputError(f"{self._name(index)} has no {min(missing)!r}, only {known}; it is no scene of GQN's")
        frames, cameras = example["frames"], example["cameras"]
        if not frames or len(cameras) != POSE * len(frames):
            raise InputError(
                f"{self._name(index)} has {len(cameras)} numbers for the cameras of {len(frames)} frames; "
                f"expected {POSE} for each"
            )
        return frames, cameras.reshape(-1, POSE)

    def _decode(self, frame: bytes, index: int) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(frame)) as image:
                return np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises
            raise InputError(f"{self._name(index)} has a frame that is no readable image: {error}") from error

    def _name(self, index: int) -> str:
        file = self.files[self._numbers[index]]
        return f"record {index - int(np.searchsorted(self._numbers, self._numbers[index]))} of {file}"
