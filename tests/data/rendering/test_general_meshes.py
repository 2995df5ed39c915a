"""The general shapes: closed, facing outwards, with the volumes and holes that they should have."""

import numpy as np
import pytest
from scipy.special import beta

from unscene.data.rendering.general_meshes import general_meshes

trimesh = pytest.importorskip("trimesh")
SHAPES = {mesh.name: mesh for mesh in general_meshes()}
HOLES = {"torus": 1, "knot": 1}


def read(name):
    """As trimesh sees it, with one vertex per place."""
    mesh = SHAPES[name]
    found = trimesh.Trimesh(mesh.vertices.round(9), mesh.faces, process=False)
    found.merge_vertices()
    return found


def test_names():
    assert len(SHAPES) == len(general_meshes()) == 12
    assert [*SHAPES][:3] == ["cushion", "spindle", "caltrop"]  # numbers are stored: the order may not change
    assert [*SHAPES][3:8] == ["torus", "knot", "cone", "bottle", "goblet"]
    assert [*SHAPES][8:] == ["mushroom", "star", "cross", "twist"]


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_closed_and_faces_outwards(name):
    mesh = read(name)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume > 0.5
    assert mesh.euler_number == 2 - 2 * HOLES.get(name, 0)
    assert len(mesh.faces) < 3000


@pytest.mark.parametrize("name", SHAPES)
def test_its_size_is_one(name):
    mesh = SHAPES[name]
    radius = np.hypot(*mesh.vertices[:, :2].T).max()
    np.testing.assert_allclose(mesh.vertices.min(0)[2], -mesh.vertices.max(0)[2])
    assert 0.7 < radius < 2**0.5 + 1e-9 and 0.3 < mesh.vertices[:, 2].max() < 2**0.5 + 1e-9
    assert trimesh.convex.convex_hull(mesh.vertices).area / 4 == pytest.approx(np.pi)


@pytest.mark.parametrize("name", SHAPES)
def test_normals_are_near_those_of_the_faces(name):
    mesh = SHAPES[name]
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert (mesh.normals[mesh.faces] * flat[:, None]).sum(-1).min() > np.cos(np.radians(40))


@pytest.mark.parametrize(("name", "north", "east"), [("cushion", 0.4, 0.4), ("spindle", 1.8, 1), ("caltrop", 2.4, 2.4)])
def test_volumes_of_superquadrics(name, north, east):
    """Jaklic, Leonardis and Solina (2000): 2 a b c e n B(n / 2 + 1, n) B(e / 2, e / 2)."""
    half = np.ptp(SHAPES[name].vertices, axis=0) / 2
    exact = 2 * half.prod() * north * east * beta(north / 2 + 1, north) * beta(east / 2, east / 2)
    assert read(name).volume == pytest.approx(exact, rel=0.04)


def test_volumes_of_simple_solids():
    torus, cone, star, cross = (read(name) for name in ("torus", "cone", "star", "cross"))
    small = np.ptp(torus.vertices[:, 2]) / 2
    large = np.hypot(*torus.vertices[:, :2].T).max() - small
    assert torus.volume == pytest.approx(2 * np.pi**2 * large * small**2, rel=0.05)
    assert small / large == pytest.approx(0.45, rel=0.03)
    radius, height = np.hypot(*cone.vertices[:, :2].T).max(), np.ptp(cone.vertices[:, 2])
    assert cone.volume == pytest.approx(np.pi * radius**2 * height / 3, rel=0.01)
    radius, height = np.ptp(star.vertices[:, 1]) / (2 * np.sin(np.radians(72))), np.ptp(star.vertices[:, 2])
    assert star.volume == pytest.approx(10 * radius * radius / 2 * np.sin(np.pi / 5) / 2 * height)
    edge, height = np.ptp(cross.vertices[:, 0]), np.ptp(cross.vertices[:, 2])
    assert cross.volume == pytest.approx(edge**2 * (1 - 0.62**2) * height)
