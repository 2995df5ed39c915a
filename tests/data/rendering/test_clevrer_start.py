"""How videos begin, seen through the projection that VRDP uses for CLEVRER."""

import numpy as np
import pytest

from unscene.data.generator import Draws
from unscene.data.rendering.camera import project
from unscene.data.rendering.clevrer_start import REACH, begin
from unscene.data.rendering.clevrer_view import clevrer_camera, in_picture, view_planes

# columns, rows and depths of (x, y, z, 1) in CLEVRER's 320 x 480 pixels: VRDP's numbers, rounded
VRDP = np.array([[-207.846, 525, -120, 1200], [123.936, 0, -534.663, 800], [-0.866025, 0, -0.5, 5]])
RATE, DRAG = 25.6, 0.08


@pytest.fixture(scope="module")
def starts():
    keys = np.arange(1, 121, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return [begin(Draws(keys[[i]]), 4, 6) for i in range(len(keys))]


def split(start):
    """The positions of those that lie, and (position, velocity, braked by friction) of the others."""
    lies = (start.velocity == 0).all(1)
    assert lies.tolist() == sorted(lies, reverse=True)  # they come first
    moving, braked = ~lies, np.array([shape != "sphere" for _, _, shape in start.kinds])
    return start.position[lies], zip(start.position[moving], start.velocity[moving], braked[moving], strict=True)


def test_numbers_and_kinds(starts):
    counts = [len(start.kinds) for start in starts]
    assert np.bincount(counts)[4:].min() > 25 and len(np.bincount(counts)) == 7
    for start in starts:
        assert len(set(start.kinds)) == len(start.kinds)
        lying, moving = split(start)
        assert len(lying) >= 1 and len(list(moving)) >= 1
    for names, count in zip(
        zip(*(kind for start in starts for kind in start.kinds), strict=True), (8, 2, 3), strict=True
    ):
        share = np.unique(names, return_counts=True)[1] / sum(counts)
        assert len(share) == count
        np.testing.assert_allclose(share, 1 / count, atol=0.07)
    lying = np.array([len(split(start)[0]) for start in starts]) / counts
    assert 0.4 < lying.mean() < 0.6


def test_kinds_do_not_run_out():
    start = begin(Draws(np.array([5], dtype=np.uint64)), 10, 10)
    assert len(set(start.kinds)) == 10


def test_nothing_touches_at_the_start(starts):
    for start in starts:
        distance = np.linalg.norm(start.position[:, None] - start.position, axis=2) + 9 * np.eye(len(start.position))
        assert distance.min() >= 0.4 * 2**0.5 + 0.1 - 1e-9


def ball(place):
    """Points on a ball around an object at (x, y), in which any of the three shapes has room."""
    azimuth, height = np.meshgrid(np.linspace(0, 2 * np.pi, 60), np.linspace(-1, 1, 31))
    across = np.sqrt(1 - height**2)
    points = np.stack([across * np.cos(azimuth), across * np.sin(azimuth), height], axis=-1).reshape(-1, 3)
    return (0.2 * 3**0.5) * points + (*place, 0.2)


def seen(points):
    column, row, depth = VRDP[:, :3] @ points.T + VRDP[:, 3:]
    return (depth > 0) & (column > 0) & (column < 480 * depth) & (row > 0) & (row < 320 * depth)


def test_some_lie_in_view_and_the_others_come_into_view_in_time(starts):
    for start in starts[:25]:
        lying, moving = split(start)
        assert all(seen(np.array([[*place, 0.2]])).all() for place in lying)
        for place, velocity, braked in moving:
            assert not seen(ball(place)).any()
            speed, direction = np.linalg.norm(velocity), velocity / np.linalg.norm(velocity)
            way, times = 0.0, 0.0
            while not seen(ball(place + (way + 0.02) * direction)).any():  # in small steps, by Euler's method
                way, times = way + speed * 1e-2, times + 1e-2
                speed -= 1e-2 * (DRAG * speed + 0.016 * 9.81 * braked)
            assert -0.02 <= times <= 2.55 and 0.95 <= speed <= 2.55


def test_most_objects_that_enter_head_for_one_that_lies(starts):
    missed = []
    for start in starts:
        lying, moving = split(start)
        for place, velocity, _ in moving:
            x, y = velocity / np.linalg.norm(velocity)
            missed.append(abs((lying - place) @ (-y, x)).min())
    assert np.mean(np.array(missed) <= 0.25 + 1e-9) > 0.75


def test_objects_come_from_all_sides_but_the_back(starts):
    velocity = np.concatenate([start.velocity[(start.velocity != 0).any(1)] for start in starts])
    source = np.degrees(np.arctan2(-velocity[:, 1], -velocity[:, 0]))
    assert abs(source).max() < 110 and source.min() < -100 and source.max() > 100
    assert np.histogram(source, 4, (-110, 110))[0].min() > 0.15 * len(source)


def test_the_projection_is_that_of_clevrer():
    points = np.random.default_rng(0).uniform((-3, -2, 0), (1, 2, 1), (50, 3))
    column, row, depth = VRDP[:, :3] @ points.T + VRDP[:, 3:]
    np.testing.assert_allclose(
        project(clevrer_camera((320, 480)), points).T, [column / depth, row / depth, depth], atol=1e-3
    )


def test_a_square_image_is_the_middle_of_the_full_one():
    points = np.random.default_rng(0).uniform((-3, -2, 0), (1, 2, 1), (50, 3))
    column, row, depth = VRDP[:, :3] @ points.T + VRDP[:, 3:]
    expected = [(column / depth - 80) / 5, row / depth / 5, depth]
    np.testing.assert_allclose(project(clevrer_camera((64, 64)), points).T, expected, atol=1e-3)


def test_what_is_in_the_picture():
    points = np.random.default_rng(1).uniform((-8, -4, 0), (6, 4, 3), (2000, 3))
    inside = in_picture(clevrer_camera((320, 480)), points.reshape(20, 100, 3)).ravel()
    assert 0.1 < inside.mean() < 0.9
    np.testing.assert_array_equal(inside, seen(points))


def test_planes_through_the_edges_of_the_image():
    planes = view_planes(clevrer_camera((320, 480)))
    points = np.random.default_rng(2).uniform((-8, -4, 0), (6, 4, 3), (2000, 3))
    distance = points @ planes[:, :3].T + planes[:, 3]
    np.testing.assert_array_equal((distance > 0).all(1), seen(points))
    np.testing.assert_allclose(np.linalg.norm(planes[:, :3], axis=1), 1)
    assert pytest.approx(0.2 * 3**0.5) == REACH
