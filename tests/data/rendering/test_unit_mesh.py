"""Meshes of unit size: how large they are, where they lie, and which way their surface faces."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from unscene.data.rendering import meshes
from unscene.data.rendering.unit_mesh import unit_mesh, volume

CORNERS = np.array(list(np.ndindex(2, 2, 2)), dtype=float)


def box(*edges):
    """Its 12 triangles, counter-clockwise from outside."""
    hull = ConvexHull(CORNERS)
    outward = (hull.equations[:, :3] * np.cross(*_edges(CORNERS, hull.simplices))).sum(1) > 0
    faces = np.where(outward[:, None], hull.simplices, hull.simplices[:, ::-1])
    return CORNERS * edges, faces.astype(np.int64)


def _edges(vertices, faces):
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return b - a, c - a


def mean_shadow(vertices, directions=400):
    """The area of the outline, on the mean over directions equally spaced on a spiral over the half sphere."""
    z = (np.arange(directions) + 0.5) / directions
    turn = np.pi * (1 + 5**0.5) * np.arange(directions)
    areas = []
    for height, t in zip(z, turn, strict=True):
        r = (1 - height**2) ** 0.5
        across = np.array([-np.sin(t), np.cos(t), 0])
        up = np.cross((r * np.cos(t), r * np.sin(t), height), across)
        areas.append(ConvexHull(vertices @ np.stack([across, up], axis=1)).volume)
    return np.mean(areas)


@pytest.mark.parametrize("edges", [(1, 1, 1), (3, 2, 1), (0.2, 0.1, 0.3)])
def test_it_looks_as_large_as_the_unit_sphere(edges):
    vertices, faces = box(*edges)
    mesh = unit_mesh("box", vertices + 70, faces)
    np.testing.assert_allclose(mean_shadow(mesh.vertices), np.pi, rtol=0.01)
    extent = np.ptp(mesh.vertices, axis=0)
    np.testing.assert_allclose(extent / extent[0], np.array(edges) / edges[0])


def test_a_sphere_keeps_its_radius():
    sphere = meshes.sphere()
    mesh = unit_mesh("ball", 5 * sphere.vertices, sphere.faces)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 1, atol=0.005)
    np.testing.assert_allclose(mesh.normals, mesh.vertices, atol=0.07)


@pytest.mark.parametrize(("edges", "furthest"), [((20, 1, 1), "radius"), ((1, 1, 20), "height")])
def test_what_is_thin_reaches_no_further_than_the_root_of_two(edges, furthest):
    mesh = unit_mesh("rod", *box(*edges))
    reach = {"radius": np.hypot(*mesh.vertices[:, :2].T).max(), "height": mesh.vertices[:, 2].max()}
    assert reach.pop(furthest) == pytest.approx(2**0.5) and next(iter(reach.values())) < 0.2


def test_its_middle_is_the_origin():
    vertices, faces = box(1, 2, 3)
    mesh = unit_mesh("box", vertices - (4, 5, 6), faces)
    np.testing.assert_allclose(mesh.vertices.min(0), -mesh.vertices.max(0), atol=1e-12)


def test_faces_are_turned_outwards():
    vertices, faces = box(1, 1, 1)
    assert volume(vertices, faces) == pytest.approx(1) and volume(vertices, faces[:, ::-1]) == pytest.approx(-1)
    assert volume(1e-3 * vertices + 1e6, faces) == pytest.approx(1e-9, rel=1e-4)
    for order in (1, -1):
        mesh = unit_mesh("box", vertices, faces[:, ::order])
        normals = np.cross(*_edges(mesh.vertices, mesh.faces))
        assert ((normals * mesh.vertices[mesh.faces[:, 0]]).sum(1) > 0).all()


def test_edges_stay_sharp_and_faces_flat():
    mesh = unit_mesh("box", *box(1, 1, 1))
    flat = np.cross(*_edges(mesh.vertices, mesh.faces))
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.normals[mesh.faces], np.repeat(flat[:, None], 3, axis=1), atol=1e-12)
    assert len(mesh.vertices) == 24  # faces of one side share theirs


def test_faces_without_area_are_left_out():
    vertices, faces = box(1, 1, 1)
    vertices = np.concatenate([vertices, [vertices[faces[0, :2]].mean(0)]])  # on an edge of the first face
    a, b, c = faces[0]
    faces = np.concatenate([[[a, 8, c], [8, b, c], [a, b, 8]], faces[1:]])
    mesh = unit_mesh("box", vertices, faces)
    assert len(mesh.faces) == 13 and np.isfinite(mesh.normals).all()
