"""Shapes: outlines, positions and the rule for overlapping pixels, recomputed from the label map."""

import numpy as np
import pytest
from scipy import stats

from unscene.data.shapes import Shapes


@pytest.fixture(scope="module")
def scenes():
    batch = Shapes(1000).batch(range(1000))
    return {name: value.numpy() for name, value in (batch | batch["factors"]).items() if name != "factors"}


def outline(shape: int) -> np.ndarray:
    """Geometric definition: a 7x7 square or a 12-wide triangle of 7 rows, with a line of about 2 pixels."""
    if shape == 1:
        return np.pad(np.zeros((3, 3), bool), 2, constant_values=True)
    row, column = np.mgrid[:7, :12]
    from_axis = np.abs(column - 5.5)
    solid = from_axis <= np.minimum(row, 5) + 0.5
    hole = (row >= 3) & (row <= 4) & (from_axis <= row - 2.5)
    triangle = solid & ~hole
    return triangle if shape == 2 else triangle[::-1]


def draw(scenes, scene: int) -> np.ndarray:
    """Label map painted shape by shape from the factors."""
    mask = np.zeros((28, 28), int)
    for i in (1, 2, 3):
        pixels = outline(scenes["shape"][scene, i])
        top, left = int(scenes["y"][scene, i]), int(scenes["x"][scene, i])
        mask[top : top + pixels.shape[0], left : left + pixels.shape[1]][pixels] = i
    return mask


def test_the_last_shape_owns_a_shared_pixel(scenes):
    for scene in range(200):
        np.testing.assert_array_equal(scenes["mask"][scene], draw(scenes, scene))


def test_image_is_the_union_of_the_shapes(scenes):
    assert scenes["image"].shape == (1000, 1, 28, 28) and scenes["image"].dtype == np.float32
    np.testing.assert_array_equal(scenes["image"][:, 0], scenes["mask"] > 0)


def test_shapes_are_equally_frequent_and_overlap_sometimes(scenes):
    counts = np.bincount(scenes["shape"][:, 1:].ravel(), minlength=4)
    assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > 1e-3
    full = np.array([0, 40, 48, 48])[scenes["shape"][:, 1:]].sum(1)
    overlapping = (scenes["image"].sum((1, 2, 3)) < full).mean()
    assert 0.2 < overlapping < 0.9


def test_positions_reach_every_border(scenes):
    squares = scenes["shape"] == 1
    assert set(scenes["x"][squares]) == set(scenes["y"][squares]) == set(range(22))
    triangles = scenes["shape"] > 1
    assert set(scenes["x"][triangles]) == set(range(17)) and set(scenes["y"][triangles]) == set(range(22))
