"""Rooms at random: what stands in them, in which colours, where cameras are, and what they see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8

from unscene.data.clips import visible_ids
from unscene.data.generator import Draws
from unscene.data.multi_dsprites import hue_to_rgb
from unscene.data.preprocess import pixels_to_image
from unscene.data.rendering.camera import camera_to_world
from unscene.data.rendering.mujoco_room import LABELS, PARTS, Furniture, room
from unscene.data.rendering.room_model import HEIGHT, MOST, PERIOD, REACH, SHAPES, SIZES
from unscene.data.rendering.stage import Camera
from unscene.scenes import Scenes

RING, EYE = 3.2, 1.25  # the cameras' circle: its radius and height
TANGENT = math.tan(math.radians(60) / 2)  # the field of view is 60 degrees
CLEAR = 2.7  # objects stand within this distance from the middle, so that no camera is in one
GAP = 0.1  # between any two objects, at least
SEEN, SEEN_SIZE = 16, 64  # an object counts as seen from so many of 64 x 64 pixels on
ATTEMPTS = 64  # placements of all objects tried at once


class Variant(NamedTuple):
    """One of the datasets."""

    fewest: int  # objects
    most: int
    fewest_seen: int  # of them, in every picture
    one_color: bool = False  # of all objects


class Shots(NamedTuple):
    """What the T cameras in a room have taken."""

    furniture: Furniture
    image: UInt8[np.ndarray, "T H W 3"]
    parts: UInt8[np.ndarray, "T H W"]  # an index of LABELS and PARTS
    camera: Float[np.ndarray, "T 4 4"]


def shoot(
    draws: Draws,
    variant: Variant,
    image_size: int,
    route: Callable[[Draws], tuple[np.ndarray, np.ndarray]],
    taken: slice = slice(None),
) -> Shots:
    """A room of ``variant``, and what cameras along ``route`` (azimuths and pitches (T,) of drawn) see in it.

    All is drawn anew until every one of them sees enough objects; the pictures are of those of them in ``taken``.
    """
    here = room()
    while True:
        furniture, cameras = furnish(draws, variant), [aim(*pose) for pose in zip(*route(draws), strict=True)]
        here.furnish(furniture)
        if all(_num_seen(here.parts(camera)) >= variant.fewest_seen for camera in cameras):
            break
    cameras = [camera._replace(width=image_size, height=image_size) for camera in cameras[taken]]
    image = np.stack([here.picture(camera) for camera in cameras])
    parts = np.stack([here.parts(camera) for camera in cameras])
    return Shots(furniture, image, parts, np.stack([camera_to_world(camera) for camera in cameras]))


def aim(azimuth: float, pitch: float) -> Camera:
    """The camera at this place on the ring, which looks to the middle of the room and upwards by ``pitch``."""
    x, y = math.cos(azimuth), math.sin(azimuth)
    location = np.array([RING * x, RING * y, EYE])
    return Camera(location, location + (-x, -y, math.tan(pitch)), SEEN_SIZE, SEEN_SIZE, TANGENT)


def assemble_shots(shots: list[Shots], most: int) -> Scenes:
    """The scenes of rooms with at most so many objects: videos, with an axis T."""
    parts = np.stack([shot.parts for shot in shots])
    mask = torch.from_numpy(LABELS[parts])
    rows = [_factors(shot.furniture, most) for shot in shots]
    return {
        "image": pixels_to_image(torch.from_numpy(np.stack([shot.image for shot in shots]))),
        "mask": mask,
        "background": torch.from_numpy(PARTS[parts]),
        "camera": torch.from_numpy(np.stack([shot.camera for shot in shots]).astype(np.float32)),
        "factors": {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]},
        "visibility": visible_ids(mask, 1 + most),
    }


def _factors(furniture: Furniture, most: int) -> dict[str, np.ndarray]:
    """Of the background and the objects (1 + most, ...), 0 where there is none."""
    missing = most - len(furniture.shape)
    objects = {
        "shape": (1 + furniture.shape).astype(np.uint8),
        "size": SIZES[furniture.level].astype(np.float32),
        "color": furniture.color.astype(np.float32),
        "position": furniture.position.astype(np.float32),
        "rotation": furniture.rotation.astype(np.float32),
    }
    background = {"wall_color": furniture.wall.astype(np.float32), "floor_color": furniture.floor.astype(np.float32)}
    return {name: np.pad(v, [(1, missing), *[(0, 0)] * (v.ndim - 1)]) for name, v in objects.items()} | {
        name: np.pad(v[None], [(0, most), (0, 0)]) for name, v in background.items()
    }


def _num_seen(parts: UInt8[np.ndarray, "H W"]) -> int:
    return int((np.bincount(LABELS[parts].ravel(), minlength=MOST + 1)[1:] >= SEEN).sum())


def furnish(draws: Draws, variant: Variant) -> Furniture:
    """Objects and colours of one room."""
    count = int(variant.fewest + draws.integers(variant.most - variant.fewest + 1, 1)[0, 0])
    shape, level = (draws.integers(len(kinds), MOST)[0, :count] for kinds in (SHAPES, SIZES))
    rotation = PERIOD[shape] * draws.uniform(MOST)[0, :count]
    color = _paint(draws, MOST, saturation=(0.65, 1.0), value=(0.7, 1.0))
    color = color[np.zeros(count, int) if variant.one_color else slice(count)]
    wall, floor = _paint(draws, 2, saturation=(0.35, 0.8), value=(0.75, 1.0))
    position = np.column_stack([_place(draws, REACH[shape] * SIZES[level]), HEIGHT[shape] * SIZES[level]])
    return Furniture(shape, level, position, rotation, color, wall, floor)


def _paint(
    draws: Draws, count: int, saturation: tuple[float, float], value: tuple[float, float]
) -> Float[np.ndarray, "n 3"]:
    """RGB colours of any hue, with saturation and value in these ranges."""
    hue, *others = draws.uniform(3, count, 1)[0]
    s, v = (low + (high - low) * u for (low, high), u in zip((saturation, value), others, strict=True))
    return v * (1 - s + s * hue_to_rgb(hue))


def _place(draws: Draws, reach: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Centres of discs with these radii that do not touch, uniform over all such placements."""
    first, second = np.triu_indices(len(reach), 1)
    apart = reach[first] + reach[second] + GAP
    while True:
        radius, angle = draws.uniform(2, ATTEMPTS, MOST)[0, ..., : len(reach)]  # (A, n) each
        radius, angle = (CLEAR - reach) * np.sqrt(radius), 2 * np.pi * angle
        tries = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        free = ((tries[:, first] - tries[:, second]) ** 2).sum(-1) >= apart**2
        if (found := free.all(1)).any():
            return tries[found.argmax()]
