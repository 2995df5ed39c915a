"""Objects on the floor: against equations of motion, conservation laws, and the geometry of discs and squares."""

import hashlib
import subprocess
import sys
from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from unscene.data.rendering.clevrer_physics import Contact, earlier, simulate

pytest.importorskip("mujoco")

SHAPES = ["cube", "sphere", "cylinder"]
BRAKE = {"cube": 0.016 * 9.81, "sphere": 0.0, "cylinder": 0.016 * 9.81}  # deceleration by friction, beside drag
RATE = 25.6


def crowd(seed):
    """Six objects that rush to the middle from all sides, slightly off target."""
    random = np.random.default_rng(seed)
    azimuth = 2 * np.pi * (np.arange(6) + 0.3 * random.random(6)) / 6
    away = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
    position = random.uniform(1.0, 2.5, (6, 1)) * away
    velocity = -random.uniform(0.8, 2.5, (6, 1)) * away + random.uniform(-0.2, 0.2, (6, 2))
    return random.choice(SHAPES, 6).tolist(), position, velocity, random.uniform(0, 7, 6)


@pytest.fixture(scope="module", params=range(4))
def scene(request):
    start = crowd(request.param)
    return start[0], simulate(*start, frames=90)


def gaps(shapes, tracks):
    """(pairs, T): signed distances of discs and squares of radius 0.2, by the planes that separate them best."""
    angle = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    direction = np.stack([np.cos(angle), np.sin(angle)])

    def reach(k):  # (T, directions): how far the outline goes from the centre
        turned = angle - tracks.angle[k][:, None]
        return 0.2 * (abs(np.cos(turned)) + abs(np.sin(turned)) if shapes[k] == "cube" else np.ones_like(turned))

    apart = [(tracks.location[j] - tracks.location[i])[:, :2] @ direction for i, j in combinations(range(6), 2)]
    both = [reach(i) + reach(j) for i, j in combinations(range(6), 2)]
    return (np.array(apart) - np.array(both)).max(-1)


def contact_frames(tracks, pair):
    return [contact.frame for contact in tracks.contacts if (contact.first, contact.second) == pair]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_alone_slows_down_on_a_straight_line(shape):
    tracks = simulate([shape], np.array([[-1.0, 0.5]]), np.array([[1.2, -0.9]]), np.array([0.4]), frames=60)
    true = solve_ivp(lambda _, v: -BRAKE[shape] - 0.08 * v, (0, 59 / RATE), [1.5], rtol=1e-9, dense_output=True)
    speed = true.sol(np.arange(60) / RATE)[0]
    velocity = speed[:, None] * (0.8, -0.6, 0)
    np.testing.assert_allclose(tracks.velocity[0], velocity, atol=1e-3)
    way = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 / RATE)])  # trapezoids: exact to 1e-5
    location = np.array([-1.0, 0.5, 0.2]) + way[:, None] * (0.8, -0.6, 0)
    np.testing.assert_allclose(tracks.location[0], location, atol=1e-3)
    np.testing.assert_allclose(tracks.angle, 0.4, atol=1e-6)
    assert not tracks.contacts


def test_objects_at_rest_stay_there():
    tracks = simulate(SHAPES, np.array([[0, 0], [0.5, 0], [0, 0.6]]), np.zeros((3, 2)), np.zeros(3), frames=60)
    np.testing.assert_allclose(tracks.location, tracks.location[:, :1].repeat(60, 1), atol=1e-5)
    assert abs(tracks.velocity).max() < 1e-4 and not tracks.contacts


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cube_that_turns_is_braked_by_the_floor_and_others_keep_turning(shape):
    striker = np.array([[-0.8, 0.15], [0.0, 0.0]])
    tracks = simulate(["sphere", shape], striker, np.array([[2.0, 0], [0, 0]]), np.zeros(2), frames=80)
    spin = abs(tracks.spin[1])
    if shape == "cube":
        assert spin.max() > 2 and spin[-1] < 0.7 * spin.max()
    else:
        assert spin.max() < 0.3  # surfaces are smooth


@pytest.mark.parametrize("pair", [(a, b) for a in SHAPES for b in SHAPES])
def test_a_head_on_collision_keeps_the_momentum_and_loses_speed_by_the_restitution(pair):
    tracks = simulate(
        pair, np.array([[-1.2, 0], [0, 0]]), np.array([[2.0, 0], [0, 0]]), np.array([0, np.pi / 2]), frames=30
    )
    (contact,) = tracks.contacts
    assert isinstance(contact, Contact) and (contact.first, contact.second) == (0, 1)
    surface = (-0.2, 0, 0.2) if pair != ("cube", "cube") else (-0.2, *contact.location[1:])  # faces touch anywhere
    np.testing.assert_allclose(contact.location, surface, atol=0.005)
    assert abs(contact.location[1]) < 0.205 and abs(contact.location[2] - 0.2) < 0.205
    assert tracks.velocity[1, contact.frame - 1, 0] < 1e-3 and tracks.velocity[1, contact.frame, 0] > 0.1
    before, after = tracks.velocity[:, contact.frame - 1], tracks.velocity[:, contact.frame + 1]
    # to the floor and the drag: MuJoCo's floor brakes a little more while an object is pushed
    assert 0 <= before[:, 0].sum() - after[:, 0].sum() < 0.05
    restitution = (after[1, 0] - after[0, 0]) / (before[0, 0] - before[1, 0])
    assert restitution == pytest.approx(0.64, abs=0.04)  # of ten steps, the first and the last count in part
    np.testing.assert_allclose(tracks.velocity[:, :, 1:], 0, atol=1e-3)


def test_energy_never_grows(scene):
    """In frames where no two objects touch; while they do, the contact keeps some of it for 1/100 s."""
    shapes, tracks = scene
    inertia = np.where(np.array(shapes) == "cube", 0.4**2 / 6, 0.4 * 0.2**2)[:, None]
    energy = ((tracks.velocity**2).sum(-1) / 2 + inertia * tracks.spin**2 / 2).sum(0)
    free = (gaps(shapes, tracks) > 1e-3).all(0)
    assert free.sum() > 60
    assert (np.diff(energy[free]) <= 1e-5).all() and energy[-1] < 0.7 * energy[0]


def test_objects_hardly_enter_each_other_and_stay_upright_on_the_floor(scene):
    shapes, tracks = scene
    assert gaps(shapes, tracks).min() > -0.02  # a twentieth of their width, when the fastest collide
    np.testing.assert_allclose(tracks.location[..., 2], 0.2, atol=1e-4)


def test_contacts_agree_with_distances(scene):
    shapes, tracks = scene
    assert len(tracks.contacts) >= 3
    assert [contact.frame for contact in tracks.contacts] == sorted(contact.frame for contact in tracks.contacts)
    for (i, j), gap in zip(combinations(range(6), 2), gaps(shapes, tracks), strict=True):
        frames = contact_frames(tracks, (i, j))
        assert (np.diff(frames) > 4).all()  # one per encounter
        for frame in frames:  # they came nearer before, and were as near as they can get within a frame
            speed = np.linalg.norm(tracks.velocity[i] - tracks.velocity[j], axis=1)[frame - 1]
            assert min(gap[frame - 1], gap[frame]) < 1.5 * speed / RATE + 0.01
            assert gap[max(frame - 3, 0)] > 0
        touching = [-10, *np.flatnonzero(gap < -1e-3)]
        for last, frame in pairwise(touching):  # a new encounter, or the same that goes on
            assert frame - last <= 5 or any(last < contact <= frame for contact in frames)


def test_an_object_changes_its_way_at_contacts_only(scene):
    _, tracks = scene
    steps = np.linalg.norm(np.diff(tracks.velocity, axis=1), axis=-1)  # (n, T - 1)
    for k, step in enumerate(steps):
        frames = np.array([c.frame for c in tracks.contacts if k in (c.first, c.second)], dtype=int)
        for jump in 1 + np.flatnonzero(step > 0.1):  # an encounter may have several blows
            assert (abs(frames - jump) <= 5).any()
        assert all(step[max(frame - 1, 0) : frame + 1].max() > 0.005 for frame in frames)


def test_velocity_is_how_the_location_changes(scene):
    _, tracks = scene
    mean = (tracks.velocity[:, 1:] + tracks.velocity[:, :-1]) / 2
    smooth = np.linalg.norm(np.diff(tracks.velocity, axis=1), axis=-1) < 0.02
    np.testing.assert_allclose((np.diff(tracks.location, axis=1) * RATE)[smooth], mean[smooth], atol=2e-3)
    turning, turned = (tracks.spin[:, 1:] + tracks.spin[:, :-1]) / 2, np.diff(tracks.angle, axis=1) * RATE
    np.testing.assert_allclose(turned[smooth], turning[smooth], atol=0.02)


def test_the_beginning_does_not_depend_on_the_length():
    start = crowd(0)
    long, short = simulate(*start, frames=40), simulate(*start, frames=25)
    np.testing.assert_array_equal(long.location[:, :25], short.location)
    np.testing.assert_array_equal(long.spin[:, :25], short.spin)
    assert [c[:3] for c in short.contacts] == [c[:3] for c in long.contacts if c.frame < 25]


def fingerprint():
    tracks = simulate(*crowd(1), frames=60)
    return hashlib.sha256(tracks.location.tobytes() + tracks.angle.tobytes()).hexdigest()


def test_another_process_computes_the_same():
    code = f"import sys; sys.path.insert(0, {__file__.rsplit('/', 1)[0]!r}); import test_clevrer_physics as t"
    result = subprocess.run([sys.executable, "-c", f"{code}; print(t.fingerprint())"], capture_output=True, text=True)
    assert result.stdout.strip() == fingerprint(), result.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_where_an_object_was_earlier(shape):
    true = solve_ivp(lambda _, s: [s[1], -BRAKE[shape] - 0.08 * s[1]], (0, 2.3), [0.0, 1.9], rtol=1e-9, atol=1e-12)
    (way, speed), friction = true.y[:, -1], BRAKE[shape] / 9.81
    found_way, found_speed = earlier(np.array([speed]), np.array([2.3]), np.array([friction]))
    np.testing.assert_allclose([found_way[0], found_speed[0]], [way, 1.9], rtol=1e-7)
