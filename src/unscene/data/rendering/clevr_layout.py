"""CLEVR's recipe: which objects a scene has, where they stand, and where camera and lamps are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unscene.data.generator import Draws
from unscene.data.rendering import meshes
from unscene.data.rendering.placement import place
from unscene.data.rendering.stage import Camera, Thing
from unscene.data.rendering.visibility import visible_pixels
from unscene.data.solids import HALF_EDGE, Solid

SHAPES = ("cube", "sphere", "cylinder")
MATERIALS = ("rubber", "metal")
SIZES = {"large": 0.7, "small": 0.35}  # radius, and half the height; of cubes half the edge
COLORS = {
    **{"gray": (87, 87, 87), "red": (173, 35, 35), "blue": (42, 75, 215), "green": (29, 105, 20)},
    **{"brown": (129, 74, 25), "purple": (129, 38, 192), "cyan": (41, 208, 208), "yellow": (255, 238, 51)},
}  # RGB of 255, taken as linear
REACH, GAP, MARGIN = 3.0, 0.25, 0.4
PIXELS = 200  # of every object that must be seen in the frame
WIDTH, HEIGHT = 320, 240  # of the frame
TANGENT = 16 / 35  # a lens of 35 on a sensor 32 wide
CAMERA = np.array([7.48, -6.51, 5.34])
LAMPS = np.array([[6.45, -2.91, 4.26], [-4.67, -4.01, 3.01], [-1.17, 2.65, 5.82]])  # key, fill, back
CAMERA_JITTER, LAMP_JITTER = 0.5, 1.0  # along each axis, to both sides
MESHES = {"cube": meshes.cube, "sphere": meshes.sphere, "cylinder": meshes.cylinder}
UNIT = (float(HALF_EDGE), 1.0, 1.0)  # half the height of a `Solid` of size 1
Factors = dict[str, np.ndarray]  # of the objects of one scene, (n, ...)


class Layout(NamedTuple):
    """One scene, before anyone looks at it."""

    factors: Factors  # size, material, shape, color from 1; rotation in degrees; position (n, 3) of the centres
    camera: Float[np.ndarray, " 3"]
    lamps: Float[np.ndarray, "3 3"]


def arrange(draws: Draws, fewest: int, most: int) -> Layout:
    """The layout of the one scene of ``draws``.

    Objects are drawn anew until all find room and have 200 visible pixels in the frame of 320 x 240, as solids with
    sharp edges show them; camera, lamps and the number of objects stay.
    """
    count = fewest + int(draws.integers(most - fewest + 1, 1)[0, 0])
    camera = CAMERA + CAMERA_JITTER * (2 * draws.uniform(3)[0] - 1)
    lamps = LAMPS + LAMP_JITTER * (2 * draws.uniform(3, 3)[0] - 1)
    while True:
        factors = _furnish(draws, count, camera)
        if factors and visible_pixels(frame(camera), _solids(factors)).min() >= PIXELS:
            return Layout(factors, camera, lamps)


def frame(location: Float[np.ndarray, " 3"]) -> Camera:
    """CLEVR's camera, which looks at the centre of the scene."""
    return Camera(location, np.zeros(3), WIDTH, HEIGHT, TANGENT)


def things(factors: Factors) -> tuple[Thing, ...]:
    """The objects, for a renderer."""
    colors = np.array(list(COLORS.values())) / 255
    return tuple(
        Thing(MESHES[solid.shape](), _pose(solid), tuple(colors[color - 1]), MATERIALS[material - 1])
        for solid, color, material in zip(_solids(factors), factors["color"], factors["material"], strict=True)
    )


def _furnish(draws: Draws, count: int, camera: np.ndarray) -> Factors | None:
    """None if not all objects have found room."""
    kinds = {"size": len(SIZES), "material": len(MATERIALS), "shape": len(SHAPES), "color": len(COLORS)}
    factors = {name: 1 + draws.integers(kind, count)[0] for name, kind in kinds.items()}
    rotation = 360 * draws.uniform(count)[0]
    radius = np.array(list(SIZES.values()))[factors["size"] - 1]
    front = camera[:2] / np.linalg.norm(camera[:2])
    centres = place(draws, radius, reach=REACH, gap=GAP, margin=MARGIN, front=front)
    if centres is None:
        return None
    return factors | {"rotation": rotation, "position": np.concatenate([centres, radius[:, None]], axis=1)}


def _solids(factors: Factors) -> list[Solid]:
    sizes = list(SIZES.values())
    columns = (factors[name] for name in ("shape", "size", "position", "rotation"))
    return [
        Solid(SHAPES[shape - 1], sizes[size - 1] / UNIT[shape - 1], position, math.radians(rotation), np.zeros(3))
        for shape, size, position, rotation in zip(*columns, strict=True)
    ]


def _pose(solid: Solid) -> Float[np.ndarray, "4 4"]:
    scale = solid.size * UNIT[SHAPES.index(solid.shape)]
    cos, sin = scale * math.cos(solid.turn), scale * math.sin(solid.turn)
    pose = np.diag([0.0, 0.0, scale, 1.0])
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:3, 3] = solid.location
    return pose
