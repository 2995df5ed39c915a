"""Label maps of meshes against rays that are tested against every face."""

import numpy as np
import pytest

from unscene.data.rendering import meshes
from unscene.data.rendering.camera import pixel_rays
from unscene.data.rendering.general_meshes import general_meshes
from unscene.data.rendering.mesh_visibility import thing_labels, visible_pixels
from unscene.data.rendering.stage import Camera, Mesh, Thing

CAMERA = Camera(np.array([7.0, -6.0, 5.0]), np.zeros(3), 36, 28, 0.5, 0.03)
CENTRE = np.zeros(3)


def thing(mesh, size, *place):
    pose = np.diag([size, size, size, 1.0])
    pose[:3, 3] = place
    return Thing(mesh, pose, (0.5, 0.5, 0.5), "rubber")


def first_met(camera, things):
    """Moeller and Trumbore (1997), all rays against all faces."""
    rays = pixel_rays(camera)[:, :, None]
    best, labels = np.full(rays.shape[:2], np.inf), np.zeros(rays.shape[:2], int)
    for i, (mesh, pose, *_) in enumerate(things, start=1):
        a, b, c = np.moveaxis((mesh.vertices @ pose[:3, :3].T + pose[:3, 3])[mesh.faces], 1, 0)
        across, s = np.cross(rays, c - a), camera.location - a
        with np.errstate(divide="ignore", invalid="ignore"):
            f = 1 / (across * (b - a)).sum(-1)
            u, q = f * (s * across).sum(-1), np.cross(s, b - a)
            v, t = f * (rays * q).sum(-1), f * ((c - a) * q).sum(-1)
        t = np.where((u >= 0) & (v >= 0) & (u + v <= 1), t, np.inf).min(-1)
        labels[t < best] = i
        best = np.minimum(t, best)
    return labels


@pytest.mark.parametrize("seed", range(4))
def test_random_triangles(seed):
    """They pass through each other, and some reach out of the image."""
    random = np.random.default_rng(seed)
    soups = [
        Mesh("soup", random.normal(size=(3 * n, 3)) * 2, np.arange(3 * n).reshape(n, 3))
        for n in random.integers(1, 9, 5)
    ]
    things = tuple(thing(soup, 1.0, 0, 0, 0) for soup in soups)
    expected = first_met(CAMERA, things)
    np.testing.assert_array_equal(thing_labels(CAMERA, things), expected)
    counts = np.bincount(expected.ravel(), minlength=6)[1:]
    np.testing.assert_array_equal(visible_pixels(CAMERA, things), counts)
    assert (counts > 0).sum() > 2


def test_general_shapes():
    places = [(x, y, 0.9) for x in (-2.0, 0, 2) for y in (-2.0, 0, 2, 4)]
    things = tuple(thing(mesh, 0.9, *place) for mesh, place in zip(general_meshes(), places, strict=True))
    expected = first_met(CAMERA, things)
    assert len(np.unique(expected)) == 13
    np.testing.assert_array_equal(thing_labels(CAMERA, things), expected)


def test_what_is_nearer_hides():
    camera = Camera(np.array([0.0, -9.0, 0.0]), CENTRE, 160, 120, 0.5)
    near, far = thing(meshes.sphere(), 1.0, 0, -3, 0), thing(meshes.sphere(), 1.0, 0, 3, 0)
    alone = visible_pixels(camera, (near,))
    np.testing.assert_allclose(alone, np.pi * (160 * np.tan(np.arcsin(1 / 6))) ** 2, rtol=0.01)
    assert (visible_pixels(camera, (near, far)) == [alone[0], 0]).all()
    assert (visible_pixels(camera, (far, near)) == [0, alone[0]]).all()


def test_what_is_out_of_the_image_has_no_pixels():
    camera = Camera(np.array([0.0, -9.0, 0.0]), CENTRE, 20, 20, 0.2)
    assert visible_pixels(camera, (thing(meshes.sphere(), 1.0, 6, 0, 0),)) == [0]
    assert visible_pixels(camera, (thing(meshes.sphere(), 4.0, 0, 0, 0),)) == [400]
