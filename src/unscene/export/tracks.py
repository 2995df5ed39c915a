"""Where every object is in every frame, written while the frames come."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer, UInt8


class Track(NamedTuple):
    """One object in one frame. Lengths are pixels; the right and bottom edges of the box are the first ones outside."""

    frame: int
    object: int
    left: int
    top: int
    right: int
    bottom: int
    x: float  # mean over the object's pixels, whose own centres are whole numbers
    y: float
    area: int


def tracks_of(labels: Integer[np.ndarray, "H W"], frame: int) -> list[Track]:
    """The slots that own pixels of a label map, by number."""
    found = []
    for k in np.unique(labels).tolist():
        y, x = np.nonzero(labels == k)
        box = (int(edge) for edge in (x.min(), y.min(), x.max() + 1, y.max() + 1))
        found.append(Track(frame, k, *box, float(x.mean()), float(y.mean()), len(x)))
    return found


class TrackWriter:
    """tracks.csv, and the same with label maps and slots as tracks.npz; a context in which frames are added.

    Until the end all lies in files of the folder, so that memory does not grow with the number of frames.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.frames = folder, 0
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __enter__(self) -> TrackWriter:
        self._csv = (self.folder / "tracks.csv").open("w", newline="")
        self._writer = csv.writer(self._csv)
        self._writer.writerow(Track._fields)
        self._raw = {name: (self.folder / f"{name}.raw").open("wb") for name in ("labels", "slots", "tracks")}
        return self

    def add(self, labels: UInt8[np.ndarray, "H W"], slots: Float[np.ndarray, "K D"]) -> None:
        """One more frame."""
        tracks = tracks_of(labels, self.frames)
        self._writer.writerows((*track[:6], f"{track.x:.2f}", f"{track.y:.2f}", track.area) for track in tracks)
        rows = np.array(tracks, dtype=np.float64)
        for name, array in (("labels", labels), ("slots", slots.astype(np.float32)), ("tracks", rows)):
            self._raw[name].write(array.tobytes())
        self._shapes = {"labels": labels.shape, "slots": slots.shape, "tracks": (len(Track._fields),)}
        self.frames += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for file in (self._csv, *self._raw.values()):
            file.close()
        if kind is None and self.frames:
            self._pack()

    def _pack(self) -> None:
        tracks = Track(*self._stored("tracks", np.float64).T)
        np.savez_compressed(
            self.folder / "tracks.npz",
            labels=self._stored("labels", np.uint8),
            slots=self._stored("slots", np.float32),
            frame=tracks.frame.astype(np.int64),
            object=tracks.object.astype(np.int64),
            box=np.stack(tracks[2:6], 1).astype(np.int64),
            centre=np.stack([tracks.x, tracks.y], 1),
            area=tracks.area.astype(np.int64),
        )
        for name in self._raw:
            (self.folder / f"{name}.raw").unlink()

    def _stored(self, name: str, dtype: type) -> np.ndarray:
        """(T, ...) or (rows, columns), read when it is needed."""
        return np.memmap(self.folder / f"{name}.raw", dtype, mode="r").reshape(-1, *self._shapes[name])
