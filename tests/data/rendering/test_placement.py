"""Placement: circles keep their distances, and are uniform over the room that there is."""

import numpy as np
import pytest

from unscene.data.bouncing_balls import BouncingBalls
from unscene.data.rendering.placement import place

FRONT = np.array([0.8, -0.6])


def draws(i):
    """Some stream of random numbers."""
    return BouncingBalls(1000).draws([i])


@pytest.mark.parametrize("region", ["square", "disc"])
def test_distances(region):
    radius = np.array([0.7, 0.35, 0.5, 0.7])
    for i in range(50):
        centres = place(draws(i), radius, reach=3.0, gap=0.25, margin=0.4, front=FRONT, region=region)
        if centres is None:
            continue
        apart = centres[:, None] - centres
        others = ~np.eye(4, dtype=bool)
        assert (np.linalg.norm(apart, axis=-1) - radius - radius[:, None])[others].min() >= 0.25 - 1e-9
        assert np.abs(apart @ FRONT)[others].min() >= 0.4 - 1e-9
        assert np.abs(apart @ (0.6, 0.8))[others].min() >= 0.4 - 1e-9
        extent = np.abs(centres).max() if region == "square" else np.linalg.norm(centres, axis=1).max()
        assert extent <= 3


def test_places_are_uniform():
    centres = np.concatenate([place(draws(i), np.ones(1), reach=2.0, gap=0.0) for i in range(800)])
    counts, _, _ = np.histogram2d(*centres.T, bins=2, range=[[-2, 2], [-2, 2]])
    assert counts.sum() == 800 and np.abs(counts - 200).max() < 60
    np.testing.assert_allclose(centres.std(0), 2 / np.sqrt(3), rtol=0.06)


def test_a_disc_s_places_are_uniform_over_its_area():
    centres = np.concatenate([place(draws(i), np.ones(1), reach=2.0, gap=0.0, region="disc") for i in range(800)])
    assert abs((np.linalg.norm(centres, axis=1) < np.sqrt(2)).mean() - 0.5) < 0.06


def test_without_a_margin_only_the_circles_count():
    both = [place(draws(i), np.full(2, 0.1), reach=1.0, gap=0.0, front=FRONT) for i in range(200)]
    assert min(np.abs((a - b) @ FRONT) for a, b in both) < 0.05


def test_no_room():
    assert place(draws(0), np.full(4, 2.0), reach=1.0, gap=0.0) is None
    assert place(draws(0), np.full(30, 0.01), reach=1.0, gap=0.0, margin=0.3, front=FRONT) is None
