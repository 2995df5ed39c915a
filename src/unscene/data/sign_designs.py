"""The faces of ten road signs: flat colours on top of each other, each within a signed distance.

Signs lie in the square from -1 to 1, u to the right and v down.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (u, v) to the distance from the outline, negative inside
Color = tuple[float, float, float]
Length = float | int

RED, BLUE, YELLOW = (0.78, 0.08, 0.12), (0.08, 0.25, 0.70), (0.98, 0.78, 0.10)
WHITE, BLACK = (0.95, 0.95, 0.95), (0.06, 0.06, 0.06)


def disc(radius: Length) -> Distance:
    return lambda u, v: np.hypot(u, v) - np.float32(radius)


def polygon(*corners: tuple[Length, Length]) -> Distance:
    """A convex polygon of corners (u, v), clockwise on the screen; beyond a corner the distance is a lower bound."""
    edges = []
    for (u0, v0), (u1, v1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        length = math.hypot(u1 - u0, v1 - v0)
        normal = np.float32((v1 - v0) / length), np.float32((u0 - u1) / length)  # outwards
        edges.append((*normal, normal[0] * u0 + normal[1] * v0))
    return lambda u, v: _largest([nu * u + nv * v - np.float32(offset) for nu, nv, offset in edges])


def bar(u0: Length, v0: Length, u1: Length, v1: Length, width: Length) -> Distance:
    """A straight stroke from (u0, v0) to (u1, v1) with flat ends."""
    length = math.hypot(u1 - u0, v1 - v0)
    du, dv = (v1 - v0) / length * width / 2, (u0 - u1) / length * width / 2
    return polygon((u0 + du, v0 + dv), (u1 + du, v1 + dv), (u1 - du, v1 - dv), (u0 - du, v0 - dv))


def union(*parts: Distance) -> Distance:
    return lambda u, v: -_largest([-part(u, v) for part in parts])


def _largest(values: list[np.ndarray]) -> np.ndarray:
    result = values[0]
    for value in values[1:]:
        result = np.maximum(result, value)
    return result


def triangle(size: Length, down: bool = False) -> Distance:
    """Equilateral, with its centroid in the middle and its tip ``size`` from there."""
    half, base = size * math.sqrt(0.75), size / 2
    if down:
        return polygon((-half, -base), (half, -base), (0, size))
    return polygon((0, -size), (half, base), (-half, base))


def diamond(size: Length) -> Distance:
    return polygon((0, -size), (size, 0), (0, size), (-size, 0))


def square(size: Length) -> Distance:
    return bar(-size, 0, size, 0, 2 * size)


ARROW_UP = union(polygon((0, -0.65), (0.45, -0.1), (-0.45, -0.1)), bar(0, -0.15, 0, 0.6, 0.3))
ARROW_RIGHT = union(polygon((0.65, 0), (0.1, 0.45), (0.1, -0.45)), bar(-0.6, 0, 0.15, 0, 0.3))
EXCLAMATION = union(bar(0, -0.4, 0, 0.1, 0.2), bar(0, 0.18, 0, 0.36, 0.2))
LETTER_H = union(bar(-0.35, -0.55, -0.35, 0.55, 0.25), bar(0.35, -0.55, 0.35, 0.55, 0.25), bar(-0.4, 0, 0.4, 0, 0.25))
SLANTED_CROSS = union(bar(-0.6, -0.6, 0.6, 0.6, 0.25), bar(-0.6, 0.6, 0.6, -0.6, 0.25))
SMALL_CROSS = union(bar(-0.25, -0.3, 0.25, 0.3, 0.2), bar(-0.25, 0.3, 0.25, -0.3, 0.2))

# From the outline up; the first few differ most, the later ones share outlines or colours with them.
DESIGNS: dict[str, tuple[tuple[Color, Distance], ...]] = {
    "no entry": ((RED, disc(1)), (WHITE, bar(-0.65, 0, 0.65, 0, 0.4))),
    "danger": ((RED, triangle(1)), (WHITE, triangle(0.7)), (BLACK, EXCLAMATION)),
    "ahead only": ((BLUE, disc(1)), (WHITE, ARROW_UP)),
    "priority road": ((WHITE, diamond(1)), (YELLOW, diamond(0.75))),
    "no vehicles": ((RED, disc(1)), (WHITE, disc(0.72))),
    "give way": ((RED, triangle(1, down=True)), (WHITE, triangle(0.6, down=True))),
    "hospital": ((BLUE, square(0.85)), (WHITE, LETTER_H)),
    "no stopping": ((RED, disc(1)), (BLUE, disc(0.75)), (RED, SLANTED_CROSS)),
    "turn right": ((BLUE, disc(1)), (WHITE, ARROW_RIGHT)),
    "crossroads": ((RED, triangle(1)), (WHITE, triangle(0.7)), (BLACK, SMALL_CROSS)),
}
