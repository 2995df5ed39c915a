"""Rays against solids: the closed forms against a search along the ray, normals against slopes of the surface."""

import numpy as np
import pytest

from unscene.data.solids import HALF_EDGE, SHAPES, Solid

RNG = np.random.default_rng(0)
EXTENT = {
    "sphere": lambda x, y, z: np.sqrt(x * x + y * y + z * z) - 1,
    "cylinder": lambda x, y, z: np.maximum(np.hypot(x, y) - 1, np.abs(z) - 1),
    "cube": lambda x, y, z: np.max(np.abs([x, y, z]), axis=0) - 0.5**0.5,
}  # negative inside


def rays(count=200):
    origin = RNG.normal(size=(3, count))
    origin *= 4 / np.linalg.norm(origin, axis=0)
    return origin, RNG.uniform(-1, 1, (3, count)) - origin  # at points in and around the solid


def search(outside, origin, ray):
    """The first t at which the ray is inside, by small steps and bisection."""
    steps = np.linspace(0.5, 1.5, 2001)
    inside = outside(*(origin + steps[:, None, None] * ray).swapaxes(0, 1)) < 0
    found = np.full(inside.shape[1], np.inf)
    for i in np.flatnonzero(inside.any(0)):
        high = steps[inside[:, i].argmax()]
        low = high - 0.0005
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if outside(*(origin[:, i] + middle * ray[:, i])) < 0 else (middle, high)
        found[i] = high
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_rays_enter_where_a_search_says(shape):
    origin, ray = rays()
    expected = search(EXTENT[shape], origin, ray)
    found = SHAPES[shape][0](origin.astype(np.float32), ray.astype(np.float32))
    assert found.dtype == np.float32
    hit = np.isfinite(expected)
    assert 100 < hit.sum() < 200 and (np.isfinite(found) == hit).mean() > 0.99  # but for rays that graze an edge
    both = hit & np.isfinite(found)
    np.testing.assert_allclose(found[both], expected[both], atol=1e-4)


def test_rays_along_the_faces_of_the_cube():
    origin = np.array([[-3, 0.1, 0.2], [-3, 0.1, 0.8]], dtype=np.float32).T
    ray = np.array([[2, 0, 0], [2, 0, -0.0]], dtype=np.float32).T
    np.testing.assert_allclose(SHAPES["cube"][0](origin, ray), [(3 - 0.5**0.5) / 2, np.inf], rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_normals_are_the_slopes_of_the_surface(shape):
    origin, ray = rays()
    intersect, normal = SHAPES[shape]
    t = intersect(origin, ray)
    point = (origin + t * ray)[:, np.isfinite(t)]
    slope = np.array(
        [
            (EXTENT[shape](*(point + step)) - EXTENT[shape](*(point - step))) / 2e-6
            for step in 1e-6 * np.eye(3)[:, :, None]
        ]
    )
    np.testing.assert_allclose(np.array(normal(point)), slope, atol=1e-4)


def test_directions_along_the_own_axes():
    solid = Solid("cube", 0.5, np.zeros(3), turn=np.pi / 6, color=np.ones(3))
    edge = np.array([[np.cos(np.pi / 6), np.sin(np.pi / 6), 0], [0, 0, 2]])
    np.testing.assert_allclose(solid.own_axes(edge), [[1, 0], [0, 0], [0, 2]], atol=1e-7)


def test_the_cube_is_as_wide_as_the_cylinder():
    np.testing.assert_allclose(np.hypot(HALF_EDGE, HALF_EDGE), 1, rtol=1e-6)
