"""CLEVR's base scene in Mitsuba's words: floor, lamps, sky and the two materials."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from unscene.data.rendering.stage import Mesh

Plugin = dict[str, Any]  # what Mitsuba's load_dict takes

SKY = 0.05  # radiance, gray
GROUND = 0.8  # reflectance
FLOOR_RADIUS = 200.0
MATERIALS = ("rubber", "metal")  # of things
LAMP_SIDE, SUN_SIDE = 0.5, 5.0
SUN = np.array([11.66, -6.63, 25.82])
FRONT = np.array([0.7544, -0.6564, 0.0])  # where CLEVR's camera is, seen from the centre
BEAM = 22.0  # degrees; up to here a spot is of full strength, at 90 degrees of none, which is about the cosine


class Lamp(NamedTuple):
    """A square that radiates from one side, towards the centre."""

    power: float  # W
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)  # linear RGB
    share: float = 1.0  # of the samples of light; about its part of the floor's, so that all samples count alike


# The ratios are such that the sun gives about half of the floor's light, and the mean pixel is that of CLEVR
SUNLIGHT, SKY_SHARE = Lamp(1130.0, share=0.5), 0.1
LAMPS = {
    "key": Lamp(61.0, (1.0, 0.84, 0.63), share=0.15),
    "fill": Lamp(19.0, (0.54, 0.63, 1.0), share=0.1),
    "back": Lamp(23.5, share=0.25),
}


def lights(places: Float[np.ndarray, "3 3"]) -> dict[str, Plugin]:
    """Emitters by name: sky, sun, and the lamps at ``places``; their ``to_world`` are arrays.

    A lamp is a 3 x 3 cluster of spots: a square would be seen in the picture and stand in the light of the others.
    """
    plugins: dict[str, Plugin] = {"sky": {"type": "constant", "radiance": SKY, "sampling_weight": SKY_SHARE}}
    radiance = SUNLIGHT.power / math.pi / SUN_SIDE**2
    plugins["sun"] = {
        "type": "rectangle",
        "to_world": _facing_centre(SUN) @ np.diag([SUN_SIDE / 2, SUN_SIDE / 2, 1, 1]),
        "light": {"type": "area", "radiance": radiance, "sampling_weight": SUNLIGHT.share},
    }
    for place, (name, lamp) in zip(places, LAMPS.items(), strict=True):
        pose = _facing_centre(place)
        for i, (across, up) in enumerate(np.ndindex(3, 3)):
            spot = np.eye(4)
            spot[:2, 3] = LAMP_SIDE / 3 * (across - 1), LAMP_SIDE / 3 * (up - 1)
            plugins[f"{name}{i}"] = {
                "type": "spot",
                "to_world": pose @ spot,
                "intensity": {"type": "rgb", "value": [lamp.power / math.pi / 9 * c for c in lamp.color]},
                "cutoff_angle": 90.0,
                "beam_width": BEAM,
                "sampling_weight": lamp.share / 9,
            }
    return plugins


def material(name: str, color: tuple[float, ...]) -> Plugin:
    """Of a thing's material or the ``ground``: these scatter light; metal mirrors it, 0.6 of it sharply."""
    reflected = {"type": "rgb", "value": list(color)}
    if name == "ground":
        return {"type": "diffuse", "reflectance": reflected}
    if name == "rubber":
        return {"type": "principled", "base_color": reflected, "roughness": 0.6, "specular": 0.2, "sheen": 0.3}
    conductor = {"type": "roughconductor", "material": "none", "distribution": "ggx", "specular_reflectance": reflected}
    return {
        "type": "blendbsdf",
        "weight": 0.6,
        "blurred": conductor | {"alpha": 0.2},
        "sharp": conductor | {"alpha": 0.01},
    }


@lru_cache
def floor(kind: Literal["backdrop", "full"]) -> Mesh:
    """The ground: a sheet that curves upwards behind the objects, or a round floor."""
    return _backdrop() if kind == "backdrop" else _round_floor()


def _backdrop(begin: float = 6.0, bend: float = 6.0, top: float = 8.0, width: float = 120.0) -> Mesh:
    """Flat up to ``begin`` behind the centre, then a quarter of a circle of radius ``bend``, then upright."""
    angle = np.linspace(0, math.pi / 2, 17)
    along = np.r_[14.0, -begin - bend * np.sin(angle), -begin - bend]
    height = np.r_[0.0, bend - bend * np.cos(angle), top]
    ahead, up = np.r_[0.0, np.sin(angle), 1.0], np.r_[1.0, np.cos(angle), 0.0]  # the normal
    line, normal = (a[:, None] * FRONT + b[:, None] * (0, 0, 1) for a, b in ((along, height), (ahead, up)))
    side = width / 2 * np.cross((0, 0, 1), FRONT)
    k = np.arange(len(line) - 1)
    a, b, c, d = k, k + 1, k + 1 + len(line), k + len(line)
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([a, d, c], axis=1)])
    return Mesh("backdrop", np.concatenate([line - side, line + side]), faces, np.concatenate([normal, normal]))


def _round_floor(corners: int = 64) -> Mesh:
    angle = 2 * math.pi * np.arange(corners) / corners
    rim = FLOOR_RADIUS * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    k = np.arange(corners)
    faces = np.stack([0 * k, 1 + k, 1 + (k + 1) % corners], axis=1)
    vertices = np.concatenate([np.zeros((1, 3)), rim])
    return Mesh("floor", vertices, faces, np.tile((0.0, 0.0, 1.0), (corners + 1, 1)))


def _facing_centre(place: np.ndarray) -> np.ndarray:
    """(4, 4): at ``place``, the z axis pointing to the origin."""
    forward = -place / np.linalg.norm(place)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, place], axis=1)
    return pose
