"""Meshes of unit size from any closed surface: moved to the origin, scaled and shaded."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull

from unscene.data.rendering.stage import Mesh

LARGEST = math.sqrt(2)  # distance from the vertical axis, and half height, of a mesh of unit size
CREASE = math.cos(math.radians(40))  # faces that meet at a larger angle leave a sharp edge


def unit_mesh(name: str, vertices: Float[np.ndarray, "P 3"], faces: Int[np.ndarray, "F 3"]) -> Mesh:
    """The closed surface as a `Mesh` of unit size around the origin, its z axis upwards, its faces seen from outside.

    The middle of the surface's extent along each axis comes to lie in the origin. Its size is one where it looks as
    large as the unit sphere: where its convex hull has the same shadow on the mean over all directions, a quarter of
    its area (Cauchy). What is long and thin stays smaller, no further than 1.41 from the axis and from the middle of
    its height. Faces are rounded off by their normals where they meet at less than 40 degrees.
    """
    vertices = vertices - (vertices.min(0) + vertices.max(0)) / 2
    reach = max(np.hypot(*vertices[:, :2].T).max(), vertices[:, 2].max())
    vertices = vertices * min(math.sqrt(4 * math.pi / ConvexHull(vertices).area), LARGEST / reach)
    faces = faces if volume(vertices, faces) > 0 else faces[:, ::-1]
    faces = faces[np.linalg.norm(_across(vertices, faces), axis=1) > 0]
    corners = np.concatenate([vertices[faces.ravel()], _normals(vertices, faces)], axis=1)
    corners, index = np.unique(corners, axis=0, return_inverse=True)  # at sharp edges, several at one place
    return Mesh(name, corners[:, :3], index.reshape(-1, 3), corners[:, 3:])


def volume(vertices: Float[np.ndarray, "P 3"], faces: Int[np.ndarray, "F 3"]) -> float:
    """What a closed surface encloses; negative where its faces are counter-clockwise seen from inside."""
    vertices = vertices - vertices.mean(0)  # far from the origin most digits would cancel
    return float((vertices[faces[:, 0]] * _across(vertices, faces)).sum()) / 6


def _across(vertices: np.ndarray, faces: np.ndarray) -> Float[np.ndarray, "F 3"]:
    """Normals of the faces, twice as long as their areas are large."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def _normals(vertices: np.ndarray, faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "3*F 3"]:
    """Of every corner of every face, the mean of the faces around it at a blunt angle to its own, by area."""
    across = _across(vertices, faces)
    unit = across / np.linalg.norm(across, axis=1, keepdims=True)
    corner, face = faces.ravel(), np.repeat(np.arange(len(faces)), 3)
    around = face[np.argsort(corner, kind="stable")]  # faces, by the vertex that they have
    count = np.bincount(corner)
    first, count = (count.cumsum() - count)[corner], count[corner]
    total = np.zeros((len(corner), 3))
    for k in range(count.max()):  # the k-th face at every vertex that has so many
        some = np.flatnonzero(count > k)
        other = around[first[some] + k]
        blunt = (unit[face[some]] * unit[other]).sum(1) > CREASE
        total[some[blunt]] += across[other[blunt]]
    return total / np.linalg.norm(total, axis=1, keepdims=True)
