"""Cubes, spheres and cylinders: where rays meet them, in closed form, and which way their surface faces there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

HALF_EDGE = np.float32(0.5**0.5)  # of the cube of size 1, whose upright edges are as far out as a cylinder's wall
INFINITY = np.float32(np.inf)

Vector = np.ndarray | Sequence[np.ndarray]  # x, y and z first
Span = tuple[np.ndarray, np.ndarray]  # the depths at which rays enter something and leave it


@dataclass(frozen=True)
class Solid:
    """An object on the ground; in its own axes, with its size as unit of length, it is one of SHAPES around 0."""

    shape: str
    size: float
    location: np.ndarray  # (3,): its centre
    turn: float  # around the vertical, in radians
    color: np.ndarray  # (3,) RGB in [0, 1]

    def own_axes(self, directions: np.ndarray) -> np.ndarray:
        """(3, V) float32: directions (V, 3) of the world along the axes of the solid, lengths as they are."""
        x, y, z = directions.T
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.stack([cos * x + sin * y, cos * y - sin * x, z]).astype(np.float32)


def sphere(origin: Vector, ray: Vector) -> np.ndarray:
    """The t at which origin + t ray enters the sphere of radius 1; inf where it never does."""
    return _within(_round(origin, ray))


def cylinder(origin: Vector, ray: Vector) -> np.ndarray:
    """As `sphere`, for the upright cylinder of radius 1 and height 2: within its wall and between its lids."""
    return _within(_round(origin[:2], ray[:2]), _between(origin[2], ray[2], np.float32(1)))


def cube(origin: Vector, ray: Vector) -> np.ndarray:
    """As `sphere`, for the cube of edge 1.41: between its three pairs of faces."""
    return _within(*(_between(o, d, HALF_EDGE) for o, d in zip(origin, ray, strict=True)))


def _round(origin: Vector, ray: Vector) -> Span:
    """The ball (or disc) of radius 1; rays that miss it enter at inf and leave at -inf."""
    a, b, c = (_dot(*pair) for pair in ((ray, ray), (origin, ray), (origin, origin)))
    discriminant = b * b - a * (c - 1)
    hit, root = discriminant > 0, np.sqrt(np.maximum(discriminant, 0))
    return np.where(hit, (-b - root) / a, INFINITY), np.where(hit, (root - b) / a, -INFINITY)


def _between(origin: np.ndarray, ray: np.ndarray, half: np.float32) -> Span:
    """The coordinates from -half to half."""
    with np.errstate(divide="ignore"):  # a ray along the faces is always between them, or never: inf is right
        inverse = 1 / ray
    low, high = (-half - origin) * inverse, (half - origin) * inverse
    return np.minimum(low, high), np.maximum(low, high)


def _within(*spans: Span) -> np.ndarray:
    """Where rays enter what all spans have in common."""
    enter, leave = zip(*spans, strict=True)
    enter, leave = reduce(np.maximum, enter), reduce(np.minimum, leave)
    return np.where(enter < leave, enter, INFINITY)


def _dot(first: Vector, second: Vector) -> np.ndarray:
    return sum(p * q for p, q in zip(first, second, strict=True))  # in one fixed order


def sphere_normal(point: Vector) -> Vector:
    """The outward unit vectors at points of the surface."""
    return point


def cylinder_normal(point: Vector) -> Vector:
    x, y, z = point
    lid = z * z > x * x + y * y
    return np.where(lid, 0, x), np.where(lid, 0, y), np.where(lid, np.sign(z), 0)


def cube_normal(point: Vector) -> Vector:
    outermost = reduce(np.maximum, (np.abs(p) for p in point))
    return tuple(np.where(np.abs(p) == outermost, np.sign(p), 0) for p in point)


SHAPES = {"cube": (cube, cube_normal), "sphere": (sphere, sphere_normal), "cylinder": (cylinder, cylinder_normal)}
