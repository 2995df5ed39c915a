"""Collisions whose outcome is known by hand, and conservation."""

import numpy as np

from unscene.data.ball_physics import SUB_STEPS, Balls


def make(balls, box=10.0):
    """One scene of balls given as (x, y, velocity x, velocity y, radius, mass)."""
    x, y, u, v, radius, mass = np.array(balls, dtype=float).T[..., None]
    return Balls(np.stack([x, y]), np.stack([u, v]), radius, mass, box)


def test_a_ball_turns_at_each_wall_without_being_moved_back():
    balls = make([(1.2, 5, -0.8, 0, 1, 1), (8.8, 2, 0.8, 0, 1, 6), (5, 1.2, 0, -0.8, 1, 1), (5, 8.8, 0, 0.8, 1, 6)])
    position, velocity, contact = balls.run(3)
    inwards = [[0.8, -0.8, 0, 0], [0, 0, 0.8, -0.8]]
    np.testing.assert_allclose(velocity[1, :, :, 0], inwards, atol=1e-12)
    # 1.2 - 2 * 0.2 = 0.8 lies beyond the wall; from there it goes back
    np.testing.assert_allclose(position[1, 0, 0, 0], 1.2 - 2 * 0.2 + 2 * 0.2)
    np.testing.assert_allclose(position[2, :, 1, 0], [8.8 - 0.8, 2])
    assert not contact.any()


def test_equal_masses_swap_velocities_head_on():
    position, velocity, contact = make([(3, 5, 0.5, 0, 1, 2), (5.5, 5, 0, 0, 1, 2)]).run(5)
    np.testing.assert_allclose(velocity[[0, -1], :, :, 0], [[[0.5, 0], [0, 0]], [[0, 0.5], [0, 0]]], atol=1e-12)
    assert contact[:, 0, 0].tolist() == contact[:, 1, 0].tolist() == [False, False, True, False, False]


def test_unequal_masses_and_an_oblique_hit_follow_the_textbook():
    """Along the line of centres (45 degrees) m1 = 1 at 1 meets m2 = 6 at rest: -5/7 and 2/7; across it nothing."""
    s = 0.5**0.5
    along, across = np.array([s, s]), np.array([-s, s])
    start = along + 0.25 * across
    _, velocity, _ = make([(3, 3, *start, 0.8, 1), (3 + 2.0 * s, 3 + 2.0 * s, 0, 0, 1, 6)]).run(2)
    normal = velocity[1, :, 1, 0] / np.linalg.norm(velocity[1, :, 1, 0])  # the heavy ball leaves along the line
    relative = start @ normal
    np.testing.assert_allclose(velocity[1, :, 1, 0], 2 / 7 * relative * normal)
    np.testing.assert_allclose(velocity[1, :, 0, 0], start - 12 / 7 * relative * normal)


def test_overlapping_balls_that_separate_are_left_alone():
    _, velocity, contact = make([(4, 5, -0.1, 0, 1, 1), (5.5, 5, 0.1, 0, 1, 6)]).run(4)
    np.testing.assert_allclose(velocity[-1, 0, :, 0], [-0.1, 0.1])
    assert not contact.any()


def test_absent_balls_touch_nothing():
    _, velocity, contact = make([(5, 5, 0.4, 0, 1, 1), (5.5, 5, 0, 0, 0, 0), (6, 5, 0, 0, 0, 0)]).run(4)
    np.testing.assert_allclose(velocity[-1, 0, :, 0], [0.4, 0, 0])
    assert not contact.any()


def test_energy_and_momentum_are_conserved_while_no_wall_is_near():
    rng = np.random.default_rng(0)
    shape = (2, 3, 50)
    position = 500 + np.array([[-1.5, 0, 1.5], [0.3, 0, -0.3]])[..., None] + rng.uniform(-0.1, 0.1, shape)
    mass = rng.choice([1.0, 6.0], size=shape[1:])
    balls = Balls(position, rng.normal(size=shape), np.full(shape[1:], 0.7), mass, box=1000.0)
    _, velocity, contact = balls.run(20)
    assert contact.any(axis=(0, 1)).mean() > 0.3  # the test sees collisions
    momentum = (balls.mass * velocity).sum(axis=2)
    energy = (balls.mass * velocity**2).sum(axis=(1, 2))
    np.testing.assert_allclose(momentum, np.broadcast_to(momentum[0], momentum.shape), rtol=0, atol=1e-9)
    np.testing.assert_allclose(energy, np.broadcast_to(energy[0], energy.shape), rtol=1e-9)


def test_the_order_of_pairs_and_steps_is_that_of_a_plain_loop():
    """Sutskever's generator ball by ball, with four sub-steps and the approach condition, is the twin."""
    rng = np.random.default_rng(1)
    radius, mass = np.array([0.8, 1.0, 1.0, 0.8, 1.0]), np.array([1.0, 6.0, 6.0, 1.0, 6.0])
    start = np.array([[2, 2], [5, 2.5], [8, 7], [3, 7], [6, 5.0]]).T[..., None] + rng.uniform(-0.1, 0.1, (2, 5, 1))
    speed = rng.normal(size=(2, 5, 1))
    position, velocity, _ = Balls(start.copy(), speed.copy(), radius[:, None], mass[:, None], 10.0).run(40)
    x, v = start[..., 0].T.copy(), speed[..., 0].T.copy()
    for t in range(40):
        np.testing.assert_allclose(position[t, :, :, 0].T, x, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(velocity[t, :, :, 0].T, v, rtol=1e-6, atol=1e-6)
        for _ in range(SUB_STEPS):
            x += v / SUB_STEPS
            for i in range(5):
                for axis in range(2):
                    if x[i, axis] - radius[i] < 0:
                        v[i, axis] = abs(v[i, axis])
                    if x[i, axis] + radius[i] > 10:
                        v[i, axis] = -abs(v[i, axis])
            for i in range(5):
                for j in range(i + 1, 5):
                    line = x[i] - x[j]
                    distance = np.linalg.norm(line)
                    line = line / distance
                    a, b = line @ v[i], line @ v[j]
                    if distance < radius[i] + radius[j] and a < b:
                        after = (2 * mass[i] * a + b * (mass[j] - mass[i])) / (mass[i] + mass[j])
                        v[i] += line * (after + b - a - a)
                        v[j] += line * (after - b)
