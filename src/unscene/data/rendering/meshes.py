"""The three shapes of CLEVR as meshes around the origin, of half height 1, edges rounded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from unscene.data.rendering.stage import Mesh

BEVEL_CUBE, BEVEL_CYLINDER = 0.23, 0.07  # radii of the rounded edges, in half heights
ARC = 5  # segments of a rounded edge
ROUND = 48  # segments of a circle


@lru_cache
def sphere() -> Mesh:
    """The unit sphere."""
    angle = np.linspace(0, np.pi, ROUND // 2 + 1)
    return _lathe("sphere", np.sin(angle), np.cos(angle), np.sin(angle), np.cos(angle))


@lru_cache
def cylinder() -> Mesh:
    """The upright cylinder of radius 1 and height 2; its rims are rounded with radius 0.07."""
    arc = np.linspace(0, np.pi / 2, ARC + 1)
    radial, up = np.sin(arc), np.cos(arc)
    inner = 1 - BEVEL_CYLINDER
    radius, height = inner + BEVEL_CYLINDER * radial, inner + BEVEL_CYLINDER * up
    profile = np.concatenate([[[0, 1, 0, 1]], np.stack([radius, height, radial, up], axis=1)])
    mirrored = profile[::-1] * (1, -1, 1, -1)
    return _lathe("cylinder", *np.concatenate([profile, mirrored]).T)


@lru_cache
def cube() -> Mesh:
    """The cube from -1 to 1; its edges are rounded with radius 0.23."""
    arc = np.tan(np.linspace(0, np.pi / 4, ARC // 2 + 2))  # half a rounded edge, on each of its two faces
    inner = 1 - BEVEL_CUBE
    flat, bend = np.r_[-inner - 0 * arc, inner + 0 * arc], np.r_[-arc[::-1], arc]  # of one axis of a face
    n = len(flat)
    corner = np.stack(np.meshgrid(flat, flat, [inner], indexing="ij"), axis=-1).reshape(-1, 3)
    normal = np.stack(np.meshgrid(bend, bend, [1.0], indexing="ij"), axis=-1).reshape(-1, 3)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    face = _quads(np.arange(n * n).reshape(n, n))
    sides = [np.roll(np.eye(3), k, axis=1) * sign for k in range(3) for sign in (1, -1)]
    sides = [side if np.linalg.det(side) > 0 else side[[1, 0, 2]] for side in sides]
    vertices = np.concatenate([(corner + BEVEL_CUBE * normal) @ side for side in sides])
    faces = np.concatenate([face + k * n * n for k in range(len(sides))])
    return Mesh("cube", vertices, faces, np.concatenate([normal @ side for side in sides]))


def _lathe(name: str, radius: np.ndarray, height: np.ndarray, radial: np.ndarray, up: np.ndarray) -> Mesh:
    """The profile (radius, height) with normals (radial, up), from the top downwards, turned around the z axis."""
    angle = 2 * np.pi * np.arange(ROUND) / ROUND
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    vertices, normals = (
        np.stack([cos * r, sin * r, np.broadcast_to(z, (ROUND, len(z)))], axis=-1).reshape(-1, 3)
        for r, z in ((radius, height), (radial, up))
    )
    grid = np.arange(ROUND * len(radius)).reshape(ROUND, -1)
    return Mesh(name, vertices, _quads(np.concatenate([grid, grid[:1]]).T), normals)


def _quads(grid: np.ndarray) -> np.ndarray:
    """Two triangles per cell of a grid of vertex indices."""
    a, b, c, d = (g.ravel() for g in (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]))
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
