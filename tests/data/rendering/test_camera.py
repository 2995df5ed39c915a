"""Cameras: rays and projection undo each other, and the image is upright."""

import numpy as np
import pytest

from unscene.data.rendering.camera import camera_to_world, pixel_rays, project
from unscene.data.rendering.stage import Camera

CAMERA = Camera(np.array([7.0, -6.0, 5.0]), np.array([0.5, 0.2, 0.1]), 32, 24, 0.4, 0.1)


def test_a_point_on_a_pixel_s_ray_appears_at_the_pixel_s_centre():
    rays, depth = pixel_rays(CAMERA), np.random.default_rng(0).uniform(1, 9, (24, 32, 1))
    found = project(CAMERA, (CAMERA.location + depth * rays).reshape(-1, 3)).reshape(24, 32, 3)
    rows, columns = np.mgrid[:24, :32] + 0.5
    np.testing.assert_allclose(found, np.stack([columns, rows, depth[..., 0]], axis=-1), atol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_the_target_is_in_the_middle_which_the_shift_moves_up(shift):
    """The image moves down on its plane, so what it shows moves up in it."""
    column, row, depth = project(CAMERA._replace(shift=shift), CAMERA.target[None])[0]
    np.testing.assert_allclose([column, row], [16, 24 * (0.5 - shift)])
    np.testing.assert_allclose(depth, np.linalg.norm(CAMERA.target - CAMERA.location))


def test_the_image_is_upright_and_not_mirrored():
    """From the south, east is on the right; what is higher has the smaller row."""
    south = Camera(np.array([0.0, -9.0, 3.0]), np.zeros(3), 10, 10, 1.0)
    east, up, middle = project(south, np.array([[1.0, 0, 0], [0, 0, 1], [0, 0, 0]]))
    assert east[0] > middle[0] and abs(east[1] - middle[1]) < 1e-9
    assert up[1] < middle[1] and abs(up[0] - middle[0]) < 1e-9


def test_the_tangent_is_half_the_width_at_depth_one():
    pose = camera_to_world(CAMERA)
    edge = CAMERA.location + pose[:3, 2] + 0.4 * pose[:3, 0]
    np.testing.assert_allclose(project(CAMERA, edge[None])[0, 0], 32)
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(pose), 1)
