"""Pictures against a ray caster of single rays in double precision, written from the geometry alone."""

import numpy as np
import pytest

from unscene.data import raycast
from unscene.data.raycast import Solid, orbit, render

RED, BLUE, WHITE = np.array([1.0, 0, 0]), np.array([0.1, 0.2, 1]), np.ones(3)
SCENE = [
    Solid("cube", 0.9, np.array([1.0, -0.5, 0.9 * 0.5**0.5]), 0.4, RED),
    Solid("sphere", 0.6, np.array([-0.8, 0.3, 0.6]), 0.0, BLUE),
    Solid("cylinder", 0.7, np.array([0.2, 1.4, 0.7]), 0.0, WHITE),
]


def cast(camera, target, solids):
    """Brightness times colour, and id, of what a ray from one point towards another meets."""
    ray = target - camera
    best, best_id, normal = np.inf, 0, None
    for number, solid in enumerate(solids, start=1):
        for t, n in crossings(solid, camera, ray):
            if t < best:
                best, best_id, normal = t, number, n
    if best_id == 0:
        ground = camera - camera[2] / ray[2] * ray
        return np.full(3, raycast.GROUND / (1 + (ground @ ground) / raycast.FADE**2)), 0
    light = raycast.AMBIENT
    for direction, strength in raycast.LIGHTS:
        light += strength * max(0, normal @ direction / np.linalg.norm(direction))
    return light * solids[best_id - 1].color, best_id


def crossings(solid, camera, ray):
    """(t, outward normal) of every crossing of the surface, from the equations of its parts."""
    offset, size, up = camera - solid.location, solid.size, np.array([0, 0, 1.0])
    if solid.shape == "cube":
        ahead = np.array([np.cos(solid.turn), np.sin(solid.turn), 0])
        axes, half = [ahead, np.cross(up, ahead), up], size * 0.5**0.5
        for normal in [*axes, *(-axis for axis in axes)]:
            t = (half - offset @ normal) / (ray @ normal)
            if all(abs((offset + t * ray) @ axis) <= half + 1e-9 for axis in axes):
                yield t, normal
        return
    flat = np.ones(3) if solid.shape == "sphere" else np.array([1.0, 1, 0])
    a, b = ray * flat, offset * flat
    for t in np.roots([a @ a, 2 * a @ b, b @ b - size**2]):
        point = (offset + t.real * ray) / size
        if t.imag == 0 and abs(point[2]) <= 1:
            yield t.real, point * flat
    if solid.shape == "cylinder":
        t = (size - offset[2]) / ray[2]
        if np.linalg.norm((offset + t * ray)[:2]) <= size:
            yield t, up


def picture(camera, size, row, column):
    """Colour and id of a pixel: the mean of four rays, but of the ground the one in the middle."""
    ahead = -camera / np.linalg.norm(camera)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(ahead, right)

    def look(dy, dx, solids):
        x, y = ((column + dx) / size - 0.5) / raycast.FOCAL, ((row + dy) / size - 0.5) / raycast.FOCAL
        return cast(camera, camera + ahead + x * right + y * down, solids)

    ground, _ = look(0.5, 0.5, [])
    rays = [look(dy, dx, SCENE) for dy in (0.25, 0.75) for dx in (0.25, 0.75)]
    ids = [number for _, number in rays]
    color = np.mean([color if number else ground for color, number in rays], axis=0)
    return color, max(ids, key=lambda number: (ids.count(number), number))


@pytest.mark.parametrize("size", [16, 13])
def test_pictures_are_those_of_single_rays(size):
    cameras = orbit(3, 7.0, 5.0, size)
    images, masks = render(cameras, SCENE)
    assert images.shape == (3, 3, size, size) and images.dtype == np.float32
    assert masks.shape == (3, size, size) and masks.dtype == np.uint8
    wrong = 0
    for view, row, column in np.ndindex(*masks.shape):
        color, number = picture(cameras.location[view], size, row, column)
        wrong += np.abs(images[view, :, row, column] - color).max() > 1e-4 or masks[view, row, column] != number
    assert wrong <= 1  # a ray that grazes an edge


def test_the_order_of_objects_does_not_matter():
    cameras = orbit(4, 7.0, 5.0, 32)
    image, mask = render(cameras, SCENE)
    reverse_image, reverse_mask = render(cameras, SCENE[::-1])
    np.testing.assert_array_equal(reverse_image, image)
    same = np.array([0, 3, 2, 1])[reverse_mask] == mask
    assert same.mean() > 0.99  # ties between two objects go to the larger id


def test_a_scene_without_objects_is_the_ground():
    cameras = orbit(2, 7.0, 5.0, 8)
    image, mask = render(cameras, [])
    np.testing.assert_array_equal(image, cameras.ground[:, None].repeat(3, 1))
    assert not mask.any()


def test_some_of_the_cameras_give_the_same_pictures():
    cameras = orbit(5, 7.0, 5.0, 24)
    image, mask = render(cameras, SCENE)
    some = np.array([4, 1])
    some_images, some_masks = render(cameras[some], SCENE)
    np.testing.assert_array_equal(some_images, image[some])
    np.testing.assert_array_equal(some_masks, mask[some])


def test_objects_beyond_the_border_are_cut_off():
    cameras = orbit(1, 7.0, 5.0, 16)
    image, mask = render(cameras, [Solid("sphere", 3.0, np.array([3.0, 3, 3]), 0.0, RED)])
    assert (mask == 1).any() and np.isfinite(image).all()
    _, mask = render(cameras, [Solid("sphere", 0.2, np.array([0.0, 40, 0.2]), 0.0, RED)])
    assert not mask.any()


def test_cameras_aim_at_the_centre_from_a_circle():
    cameras = orbit(4, 3.0, 4.0, 10)
    np.testing.assert_allclose(cameras.location, [[3, 0, 4], [0, 3, 4], [-3, 0, 4], [0, -3, 4]], atol=1e-12)
    np.testing.assert_allclose(cameras.project(np.zeros((1, 3)))[:, 0], np.full((4, 2), 4.5))
    rows, columns = cameras.project(np.array([[0, 0, 0.5], [0, 0.5, 0]]))[0].T
    assert rows[0] < 4.5 and np.isclose(columns[0], 4.5)  # what is higher appears higher
    assert columns[1] > 4.5 and np.isclose(rows[1], 4.5)  # seen from x, y is to the right
