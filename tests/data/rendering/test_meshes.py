"""CLEVR's meshes are closed, face outwards, and have the volumes that geometry says."""

import numpy as np
import pytest
from scipy.integrate import quad

from unscene.data.rendering.meshes import BEVEL_CUBE, BEVEL_CYLINDER, cube, cylinder, sphere

MESHES = (cube, sphere, cylinder)


def corners(mesh):
    return mesh.vertices[mesh.faces]  # (F, 3, 3)


def rounded_cube():
    """Steiner's formula: the cube between the bevels, then its faces, edges and corners, blown up by the bevel."""
    edge, r = 2 * (1 - BEVEL_CUBE), BEVEL_CUBE
    return edge**3 + 6 * edge**2 * r + 3 * edge * np.pi * r**2 + 4 / 3 * np.pi * r**3


def rounded_cylinder():
    inner, r = 1 - BEVEL_CYLINDER, BEVEL_CYLINDER
    rim, _ = quad(lambda z: np.pi * (inner + np.sqrt(r**2 - z**2)) ** 2, 0, r)
    return 2 * (np.pi * inner + rim)


@pytest.mark.parametrize(
    ("mesh", "volume"), [(cube, rounded_cube()), (sphere, 4 / 3 * np.pi), (cylinder, rounded_cylinder())]
)
def test_volume(mesh, volume):
    """By the divergence theorem; a face that looks inwards would count negatively."""
    a, b, c = corners(mesh()).swapaxes(0, 1)
    np.testing.assert_allclose((a * np.cross(b, c)).sum() / 6, volume, rtol=0.008)


@pytest.mark.parametrize("mesh", MESHES)
def test_every_edge_is_between_two_faces(mesh):
    _, welded = np.unique(mesh().vertices.round(6), axis=0, return_inverse=True)
    faces = welded.reshape(-1)[mesh().faces]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]  # at the poles some are but lines
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert {tuple(edge) for edge in edges} == {tuple(edge) for edge in edges[:, ::-1]}


@pytest.mark.parametrize("mesh", MESHES)
def test_normals_are_those_of_the_faces(mesh):
    a, b, c = corners(mesh()).swapaxes(0, 1)
    across = np.cross(b - a, c - a)
    area = np.linalg.norm(across, axis=1)
    normals = mesh().normals[mesh().faces].mean(1)
    np.testing.assert_allclose(np.linalg.norm(mesh().normals, axis=1), 1, atol=1e-9)
    real = area > 1e-9
    cosine = (across[real] / area[real, None] * normals[real]).sum(1)
    assert cosine.min() > 0.9


@pytest.mark.parametrize("mesh", MESHES)
def test_size_and_weight(mesh):
    np.testing.assert_allclose(mesh().vertices.max(0), 1, atol=1e-9)
    np.testing.assert_allclose(mesh().vertices.min(0), -1, atol=1e-9)
    assert len(mesh().faces) < 3000


def test_a_sphere_is_smooth_and_a_cube_flat():
    np.testing.assert_allclose(sphere().normals, sphere().vertices, atol=1e-9)
    lid = cube().normals[cube().faces] == (0, 0, 1)
    assert lid.all((1, 2)).sum() == 2  # the two triangles of its flat part


def test_meshes_are_made_once():
    assert cube() is cube()
