"""Twelve general shapes as meshes: superquadrics, solids of revolution, prisms and tubes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from unscene.data.rendering.stage import Mesh
from unscene.data.rendering.unit_mesh import unit_mesh

ROUND = 32  # columns of a solid of revolution or superquadric
ROWS = 24  # of a superquadric, from pole to pole
TUBE, ALONG = 16, 80  # corners of a tube's cross-section, and cross-sections
# Radii and heights of corners that are to be rounded off, from pole to pole
BOTTLE = np.array([(0, 0.35, 0.35, 1, 1, 0.9, 0), (3.2, 3.2, 2.2, 1.7, 0, 0, 0)])
GOBLET = np.array([(0, 0.6, 0.85, 1, 0.8, 0.2, 0.25, 0.8, 0.8, 0), (1.5, 1.5, 2.5, 2.5, 1, 1, 0.15, 0.1, 0, 0)])
MUSHROOM = np.array([(0, 0.9, 1.15, 0.9, 0.4, 0.45, 0.65, 0), (2, 2, 1.1, 1, 1.1, 0.5, 0, 0)])
ARM = np.array([(1, -0.38), (1, 0.38), (0.38, 0.38)])  # a quarter of the outline of a cross

Surface = tuple[Float[np.ndarray, "P 3"], Int[np.ndarray, "F 3"]]


@lru_cache
def general_meshes() -> tuple[Mesh, ...]:
    """The shapes, of unit size (`unit_mesh`); every one is closed."""
    surfaces = {
        "cushion": _superquadric(0.4, 0.4, height=0.65),
        "spindle": _superquadric(1.8, 1.0, height=1.2),
        "caltrop": _superquadric(2.4, 2.4, height=1.0),
        "torus": _tube(lambda t: (np.cos(t), np.sin(t), 0 * t), 0.45),
        "knot": _tube(_trefoil, 0.75),
        "cone": _revolve(np.array([(0, 1.0, 0), (2, 0, 0)])),
        "bottle": _revolve(_round_off(BOTTLE)),
        "goblet": _revolve(_round_off(GOBLET)),
        "mushroom": _revolve(_round_off(MUSHROOM)),
        "star": _prism(_polygon([1.0, 0.5] * 5), 0.6),
        "cross": _prism(np.concatenate([ARM @ _turn(k * np.pi / 2) for k in range(4)]), 0.7),
        "twist": _prism(_polygon([1.0] * 4), 2.0, twist=np.pi / 2, layers=16),
    }
    return tuple(unit_mesh(name, *surface) for name, surface in surfaces.items())


def _superquadric(north: float, east: float, height: float) -> Surface:
    """Of these exponents along the meridians and around: 1 is round, 0 a box, 2 an octahedron, more has spikes."""
    latitude, longitude = np.linspace(np.pi / 2, -np.pi / 2, ROWS + 1)[:, None], _circle(ROUND)
    radius = _power(np.cos(latitude), north)
    x, y = radius * _power(np.cos(longitude), east), radius * _power(np.sin(longitude), east)
    return _capped(np.stack(np.broadcast_arrays(x, y, height * _power(np.sin(latitude), north)), axis=-1))


def _revolve(profile: Float[np.ndarray, "2 R"]) -> Surface:
    """Radii and heights, from pole to pole, turned around the z axis."""
    radius, height = profile[..., None]
    angle = _circle(ROUND)
    return _capped(np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), axis=-1))


def _prism(outline: Float[np.ndarray, "C 2"], height: float, twist: float = 0.0, layers: int = 1) -> Surface:
    """An upright prism whose outline can be seen from its centre, turned by ``twist`` between bottom and top."""
    steps = np.linspace(0, 1, layers + 1)
    rows = [np.c_[outline @ _turn(twist * s), np.full(len(outline), height * s)] for s in steps]
    ends = [np.full((len(outline), 3), (0, 0, height * s)) for s in (0, 1)]
    return _capped(np.stack([ends[0], *rows, ends[1]]))


def _tube(path: Callable[[np.ndarray], tuple[np.ndarray, ...]], radius: float) -> Surface:
    """A tube along a closed path (x, y and z of angles from 0 to 2 pi), which is nowhere vertical."""
    angle = _circle(ALONG)
    centre = np.stack(path(angle), axis=1)
    ahead = np.roll(centre, -1, axis=0) - np.roll(centre, 1, axis=0)
    side = np.cross(ahead, (0, 0, 1))
    up = np.cross(side, ahead)
    side, up = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (side, up))
    around = _circle(TUBE)[:, None]
    points = centre[:, None] + radius * (np.cos(around) * side[:, None] + np.sin(around) * up[:, None])
    index = np.arange(points[..., 0].size).reshape(points.shape[:2])
    return points.reshape(-1, 3), _cells(np.r_[index, index[:1]])


def _trefoil(t: np.ndarray) -> tuple[np.ndarray, ...]:
    return np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)


def _capped(points: Float[np.ndarray, "R C 3"]) -> Surface:
    """A grid that closes around; its first and last rows are poles, each a single point."""
    rows, columns = points.shape[:2]
    vertices = np.concatenate([points[0, :1], points[1:-1].reshape(-1, 3), points[-1, :1]])
    index = 1 + np.arange((rows - 2) * columns).reshape(-1, columns)
    top, bottom = index[0], index[-1]
    caps = [np.stack([0 * top, top, np.roll(top, -1)], axis=1)]
    caps += [np.stack([0 * bottom + len(vertices) - 1, np.roll(bottom, -1), bottom], axis=1)]
    return vertices, np.concatenate([*caps, _cells(index)])


def _cells(index: Int[np.ndarray, "R C"]) -> Int[np.ndarray, "F 3"]:
    """Two triangles per cell of a grid of vertices that closes around."""
    a, b = index[:-1], index[1:]
    c, d = np.roll(b, -1, axis=1), np.roll(a, -1, axis=1)
    return np.concatenate([np.stack([x.ravel() for x in cell], axis=1) for cell in ((a, b, c), (a, c, d))])


def _round_off(profile: Float[np.ndarray, "2 Q"], times: int = 2) -> Float[np.ndarray, "2 R"]:
    """The corners cut off, again and again (Chaikin, 1974); the ends stay."""
    for _ in range(times):
        a, b = profile[:, :-1], profile[:, 1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], axis=2).reshape(2, -1)
        profile = np.concatenate([profile[:, :1], cut[:, 1:-1], profile[:, -1:]], axis=1)
    return profile


def _polygon(radii: list[float]) -> Float[np.ndarray, "C 2"]:
    """Corners at equal angles."""
    angle = _circle(len(radii))
    return np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1)


def _circle(corners: int) -> Float[np.ndarray, " corners"]:
    return 2 * np.pi * np.arange(corners) / corners


def _turn(angle: float) -> Float[np.ndarray, "2 2"]:
    """To be multiplied from the right."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _power(base: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(base) * np.abs(base) ** exponent
