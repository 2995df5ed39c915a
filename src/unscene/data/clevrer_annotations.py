"""The annotations of CLEVRER: which objects a video has, where they are, and when all of them are in view."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unscene.data.clevrer_masks import Kind
from unscene.errors import InputError

MAX_OBJECTS = 10
CATEGORIES = {
    "color": ("gray", "red", "blue", "green", "brown", "cyan", "purple", "yellow"),
    "material": ("metal", "rubber"),
    "shape": ("cube", "sphere", "cylinder"),
}


@dataclass(frozen=True)
class Annotation:
    """Of n objects over L frames: (n, L, 3) where they are and how fast, (n, L) whether in the camera's view.

    ``categories`` (n,) are their kinds as numbers from 1, in the order of CATEGORIES.
    """

    kinds: tuple[Kind, ...]
    categories: dict[str, np.ndarray]
    location: np.ndarray
    velocity: np.ndarray
    inside: np.ndarray

    def trimmed(self) -> range:
        """From the first frame that shows all objects to the one (excluded) that first does not again, or the last."""
        shown = self.inside.all(axis=0)
        if not self.kinds or not shown.any():
            return range(0)
        begin = int(shown.argmax())
        hidden = np.flatnonzero(~shown[begin:])
        return range(begin, begin + int(hidden[0]) if hidden.size else len(shown) - 1)

    def factors(self, frames: range) -> dict[str, np.ndarray]:
        """{name: (11, ...)}: the background first, and room for ten objects."""
        window = slice(frames.start, frames.stop)
        tracks = {name: getattr(self, name)[:, window] for name in ("location", "velocity", "inside")}
        pad = (1, MAX_OBJECTS - len(self.kinds))
        return {name: np.pad(v, [pad, *[(0, 0)] * (v.ndim - 1)]) for name, v in (self.categories | tracks).items()}


def read_annotation(path: Path) -> Annotation:
    """Of an annotation_XXXXX.json; objects that a frame does not list are outside the camera's view there.

    Some files list no objects at all. Raises InputError if it is no such file, or lists more than ten.
    """
    try:
        content = json.loads(path.read_text())
        listed = content.get("object_property", [])
        categories = {
            name: np.array([1 + values.index(thing[name]) for thing in listed], dtype=np.uint8)
            for name, values in CATEGORIES.items()
        }
        kinds = tuple((thing["color"], thing["material"], thing["shape"]) for thing in listed)
        rows = {thing["object_id"]: row for row, thing in enumerate(listed)}
        annotation = Annotation(kinds, categories, **_tracks(content["motion_trajectory"], rows))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{path} is not an annotation of CLEVRER ({type(error).__name__}: {error})") from error
    if len(kinds) > MAX_OBJECTS:
        raise InputError(f"{path} lists {len(kinds)} objects; the videos of CLEVRER have {MAX_OBJECTS} at most")
    return annotation


def _tracks(trajectory: list[dict[str, Any]], rows: dict[int, int]) -> dict[str, np.ndarray]:
    location, velocity = np.zeros((2, len(rows), len(trajectory), 3), dtype=np.float32)
    inside = np.zeros((len(rows), len(trajectory)), dtype=bool)
    for frame in trajectory:
        for thing in frame["objects"]:
            if thing["object_id"] in rows:
                where = rows[thing["object_id"]], frame["frame_id"]
                location[where], velocity[where] = thing["location"], thing["velocity"]
                inside[where] = thing["inside_camera_view"]
    return {"location": location, "velocity": velocity, "inside": inside}
