import numpy as np

from unscene.data.viewpoints import expand_poses, normalise_cameras


def test_cameras_on_the_unit_circle():
    location = np.array([[3.0, 4, 7], [-2, 0, 1], [5, 0, -3]])
    expected = np.array([[0.6 - 1, 0.8, 0], [-2, 0, 0], [0, 0, 0]])
    found = normalise_cameras(location)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    length = 5 / (5 + 1e-5)  # the small number in the division is that of the authors
    np.testing.assert_allclose(found[2], [length - 1, 0, 0], atol=1e-7)


def test_the_input_is_left_alone():
    location = np.ones((2, 3))
    normalise_cameras(location)
    assert (location == 1).all()


def test_poses():
    pose = np.array([[[1, 2, 3, np.pi / 2, np.pi / 6]]], dtype=np.float32)
    np.testing.assert_allclose(expand_poses(pose), [[[1, 2, 3, 1, 0, 0.5, 3**0.5 / 2]]], atol=1e-6)
    assert expand_poses(pose).dtype == np.float32
