"""The JSON files that list the scenes of MulMON's multi-view data: cameras, objects, and who is nearer in each view."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unscene.data.clevrer_annotations import CATEGORIES
from unscene.data.viewpoints import normalise_cameras
from unscene.errors import InputError

NAMES = {
    "shape": (*CATEGORIES["shape"], "duck", "horse", "dolphin", "mug", "diamond", "teapot", "monkey"),
    "size": ("large", "small"),
    "material": CATEGORIES["material"],
    "color": CATEGORIES["color"],
}
NUMBERS = {"3d_coords": "position", "rotation": "rotation"}  # key: our name


@dataclass(frozen=True)
class Entry:
    """A scene of V views and n objects."""

    path: Path
    viewpoint: np.ndarray  # (V, 3) float32
    ids: np.ndarray  # (V, 1 + n) uint8: the object with each number of a view's label map, in which the nearest has 1


def read_index(path: Path) -> tuple[list[Entry], dict[str, np.ndarray]]:
    """The S scenes, and factors {name: (S, N, ...)} of what all objects have, N being 1 + the most of them in a scene.

    Raises InputError if the file is missing, no such index, or contradicts itself.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; get it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("scenes"), list) or not content["scenes"]:
        raise InputError(f"{path} has no list of 'scenes'; it is no index of multi-view scenes")
    entries, num_views = [], content.get("num_views")
    for number, scene in enumerate(content["scenes"]):
        try:
            entries.append(_read_entry(scene, path.parent, num_views))
        except KeyError as error:
            raise InputError(f"scene {number} of {path} has no {error}; it is no index of multi-view scenes") from None
        except (TypeError, ValueError) as error:
            raise InputError(f"scene {number} of {path} is not as expected: {error}") from None
        num_views = len(entries[0].viewpoint)
    gallery = {shape for shape in content.get("shape_gallery") or () if isinstance(shape, str)}
    shapes = (*NAMES["shape"], *sorted(gallery - set(NAMES["shape"])))
    return entries, _factors([scene["objects"] for scene in content["scenes"]], NAMES | {"shape": shapes}, path)


def _read_entry(scene: dict[str, Any], root: Path, num_views: int | None) -> Entry:
    location, num_objects = np.array(scene["camera"]["location"], dtype=np.float64), len(scene["objects"])
    if location.ndim != 2 or location.shape[1] != 3 or len(location) != (num_views or len(location)):
        raise ValueError(f"'camera' has locations of shape {location.shape} instead of ({num_views or 'views'}, 3)")
    order = np.array(scene["depth_orders"], dtype=np.int64).reshape(len(scene["depth_orders"]), -1)
    if order.shape != (len(location), num_objects) or (np.sort(order) != np.arange(num_objects)).any():
        raise ValueError(
            f"'depth_orders' must list each object, 0 to {num_objects - 1}, once for each of the {len(location)} views"
        )
    ids = np.pad(order + 1, ((0, 0), (1, 0)))  # the background stays 0
    return Entry(_find(root, scene["data_path"]), normalise_cameras(location), ids.astype(np.uint8))


def _find(root: Path, name: str) -> Path:
    """The file of a scene: paths begin at the folder above the index's, but folders are moved and renamed."""
    places = [root.parent / name, root / name, root / "data" / Path(name).name]
    return next((place for place in places if place.is_file()), places[0])


def _factors(scenes: list[list[dict]], names: dict[str, tuple[str, ...]], path: Path) -> dict[str, np.ndarray]:
    """{name: (S, N, ...)}, 0 for the background and where there is no object."""
    objects = [thing for scene in scenes for thing in scene]
    common = set.intersection(*map(set, objects)) if objects else set()
    values = {
        name: np.array([_category(name, thing[name], known, path) for thing in objects], dtype=np.uint8)
        for name, known in names.items()
        if name in common
    }
    values |= {
        name: _numbers(key, [thing[key] for thing in objects], path) for key, name in NUMBERS.items() if key in common
    }
    places = tuple(np.array([(s, 1 + i) for s, scene in enumerate(scenes) for i in range(len(scene))]).T)
    factors = {}
    for name, value in values.items():
        factors[name] = np.zeros((len(scenes), 1 + max(map(len, scenes)), *value.shape[1:]), dtype=value.dtype)
        factors[name][places] = value
    return factors


def _category(name: str, value: str, known: tuple[str, ...], path: Path) -> int:
    if value not in known:
        raise InputError(f"an object in {path} has the {name} {value!r}, which is none of {', '.join(known)}")
    return 1 + known.index(value)


def _numbers(key: str, values: list[Any], path: Path) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{key!r} of the objects in {path} are not all numbers, or not equally many") from None
