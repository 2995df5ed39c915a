"""What a camera sees of solids, against the areas that geometry says."""

import numpy as np
import pytest

from unscene.data.rendering.stage import Camera
from unscene.data.rendering.visibility import solid_labels, visible_pixels
from unscene.data.solids import Solid

BLACK = np.zeros(3)


def solid(shape, size, x, y, z):
    return Solid(shape, size, np.array([x, y, z]), 0.0, BLACK)


def test_a_sphere_in_the_middle_is_a_disc():
    """Of the angle arcsin(size / distance), under which it appears."""
    camera = Camera(np.array([0.0, -9.0, 0.0]), BLACK, 320, 240, 0.5)
    found = visible_pixels(camera, [solid("sphere", 1.5, 0, 0, 0)])
    radius = 320 * np.tan(np.arcsin(1.5 / 9))
    np.testing.assert_allclose(found, [np.pi * radius**2], rtol=0.003)


def test_a_cube_from_the_front_is_a_square():
    camera = Camera(np.array([0.0, -9.0, 0.0]), BLACK, 320, 240, 0.5)
    size = 2**0.5  # of half edge 1, so that its front is at y = -1
    labels = solid_labels(camera, [solid("cube", size, 0, 0, 0)])
    rows, columns = np.nonzero(labels)
    edge = 320 * 2 / 8 / (2 * 0.5)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (edge, edge)
    assert len(rows) == edge**2


def test_what_is_nearer_hides():
    camera = Camera(np.array([0.0, -9.0, 0.0]), BLACK, 160, 120, 0.5)
    near, far = solid("sphere", 1.0, 0, -3, 0), solid("sphere", 1.0, 0, 3, 0)
    alone = visible_pixels(camera, [near])
    assert (visible_pixels(camera, [near, far]) == [alone[0], 0]).all()
    assert (visible_pixels(camera, [far, near]) == [0, alone[0]]).all()


@pytest.mark.parametrize(("x", "share"), [(0.0, 1.0), (4.5, 0.5), (9.0, 0.0), (-30.0, 0.0)])
def test_what_is_out_of_the_image_does_not_count(x, share):
    """At depth 9 the image ends at x = 4.5."""
    camera = Camera(np.array([0.0, -9.0, 0.0]), BLACK, 160, 120, 0.5)
    whole = visible_pixels(camera, [solid("cylinder", 0.5, 0, 0, 0)])
    np.testing.assert_allclose(visible_pixels(camera, [solid("cylinder", 0.5, x, 0, 0)]) / whole, share, atol=0.08)
