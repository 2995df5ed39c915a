"""The recipe of multi-view CLEVR: which objects a scene has, where they stand, and where the cameras are."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unscene.data.generator import Draws
from unscene.data.rendering.clevr_layout import (
    CAMERA,
    COLORS,
    LAMP_JITTER,
    LAMPS,
    MATERIALS,
    REACH,
    TANGENT,
    Factors,
)
from unscene.data.rendering.mesh_visibility import visible_pixels
from unscene.data.rendering.placement import place
from unscene.data.rendering.stage import Camera, Mesh, Thing
from unscene.errors import InputError

GAP, MARGIN = 0.075, 0.09
PIXELS, BASE_SIZE = 48, 64  # of every object that must be seen, of 64 x 64 of the first camera
TRIES = 2000  # of a scene, before it counts as impossible


class Recipe(NamedTuple):
    """What the objects of a data set are."""

    meshes: tuple[Mesh, ...]  # of unit size: each stands on the ground when its lowest point does
    sizes: tuple[float, float]  # lengths of the unit: large, small
    notches: int = 0  # of a full turn, to which objects are turned, give or take 2 degrees; 0 for any angle


class Layout(NamedTuple):
    """One scene, before anyone looks at it."""

    factors: Factors  # size, material, shape, color from 1; rotation in degrees; position (n, 3) of the middles
    lamps: Float[np.ndarray, "3 3"]


def arrange(draws: Draws, recipe: Recipe, fewest: int, most: int) -> Layout:
    """The layout of the one scene of ``draws``.

    Objects are drawn anew until all find room and have 48 visible pixels of 64 x 64 in the first view; the lamps and
    the number of objects stay. Raises InputError where that happens in none of 2000 tries.
    """
    count = fewest + int(draws.integers(most - fewest + 1, 1)[0, 0])
    lamps = LAMPS + LAMP_JITTER * (2 * draws.uniform(3, 3)[0] - 1)
    (base,) = ring(1, BASE_SIZE)
    for _ in range(TRIES):
        factors = _furnish(draws, recipe, count)
        if factors and visible_pixels(base, things(recipe, factors)).min() >= PIXELS:
            return Layout(factors, lamps)
    raise InputError(
        f"found no scene of {count} objects that all show {PIXELS} of {BASE_SIZE} x {BASE_SIZE} pixels in the first "
        "view; set fewer objects, or take away meshes that are long and thin"
    )


def ring(views: int, image_size: int) -> tuple[Camera, ...]:
    """Cameras equally spaced on the circle at the height of CLEVR's camera, from there on, aimed at the centre."""
    radius, start = np.hypot(*CAMERA[:2]), np.arctan2(CAMERA[1], CAMERA[0])
    azimuth = start + 2 * np.pi * np.arange(views) / views
    locations = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), np.full(views, CAMERA[2])], axis=1)
    return tuple(Camera(location, np.zeros(3), image_size, image_size, TANGENT) for location in locations)


def things(recipe: Recipe, factors: Factors) -> tuple[Thing, ...]:
    """The objects, for a renderer."""
    columns = (factors[name] for name in ("shape", "size", "material", "color", "rotation", "position"))
    colors = np.array(list(COLORS.values())) / 255
    return tuple(
        Thing(
            recipe.meshes[shape - 1],
            _pose(recipe.sizes[size - 1], math.radians(rotation), position),
            tuple(colors[color - 1]),
            MATERIALS[material - 1],
        )
        for shape, size, material, color, rotation, position in zip(*columns, strict=True)
    )


def _furnish(draws: Draws, recipe: Recipe, count: int) -> Factors | None:
    """None if not all objects have found room."""
    kinds = {"size": len(recipe.sizes), "material": len(MATERIALS), "shape": len(recipe.meshes), "color": len(COLORS)}
    factors = {name: 1 + draws.integers(kind, count)[0] for name, kind in kinds.items()}
    rotation = 360 * draws.uniform(count)[0]
    if recipe.notches:
        rotation = 360 / recipe.notches * draws.integers(recipe.notches, count)[0] + 4 * draws.uniform(count)[0] - 2
    size = np.array(recipe.sizes)[factors["size"] - 1]
    radius, height = size * np.transpose([_extent(recipe.meshes[shape - 1]) for shape in factors["shape"]])
    front = CAMERA[:2] / np.linalg.norm(CAMERA[:2])
    centres = place(draws, radius, reach=REACH, gap=GAP, margin=MARGIN, front=front)
    if centres is None:
        return None
    return factors | {"rotation": rotation, "position": np.column_stack([centres, height])}


@lru_cache
def _extent(mesh: Mesh) -> tuple[float, float]:
    """The radius of the upright cylinder around the origin that holds the mesh, and how far below it the mesh ends."""
    return np.hypot(*mesh.vertices[:, :2].T).max(), -mesh.vertices[:, 2].min()


def _pose(size: float, turn: float, position: np.ndarray) -> Float[np.ndarray, "4 4"]:
    cos, sin = size * math.cos(turn), size * math.sin(turn)
    pose = np.diag([0.0, 0.0, size, 1.0])
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:3, 3] = position
    return pose
