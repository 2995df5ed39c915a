"""The recipe of multi-view scenes: what is drawn, where it stands, and what the first camera sees of it."""

import numpy as np
import pytest

from unscene.data.generator import Draws
from unscene.data.rendering import views_layout
from unscene.data.rendering.camera import project
from unscene.data.rendering.cle_mv import SIZES
from unscene.data.rendering.clevr_layout import LAMPS
from unscene.data.rendering.general_meshes import general_meshes
from unscene.data.rendering.mesh_visibility import visible_pixels
from unscene.data.rendering.meshes import cube, cylinder, sphere
from unscene.data.rendering.stage import Mesh
from unscene.data.rendering.unit_mesh import unit_mesh
from unscene.data.rendering.views_layout import Recipe, arrange, ring, things
from unscene.errors import InputError

CLEVR = Recipe((cube(), sphere(), cylinder()), SIZES)
GENERAL = Recipe(general_meshes(), (0.95, 0.75), 12)


def draws(seed):
    return Draws(np.array([seed * 1_000_003 + 17], np.uint64))


@pytest.fixture(scope="module", params=[CLEVR, GENERAL], ids=["clevr", "general"])
def recipe(request):
    return request.param


@pytest.fixture(scope="module")
def layouts(recipe):
    return [arrange(draws(i), recipe, 3, 6) for i in range(150)]


def world(thing):
    return thing.mesh.vertices @ thing.pose[:3, :3].T + thing.pose[:3, 3]


def test_objects_stand_on_the_ground_and_apart(recipe, layouts):
    for layout in layouts[:40]:
        vertices = [world(thing) for thing in things(recipe, layout.factors)]
        np.testing.assert_allclose([points[:, 2].min() for points in vertices], 0, atol=1e-9)
        middle = layout.factors["position"]
        assert np.abs(middle[:, :2]).max() < 3
        reach = [np.hypot(*(p - m)[:, :2].T).max() for p, m in zip(vertices, middle, strict=True)]
        first, second = np.triu_indices(len(middle), 1)
        apart = np.linalg.norm((middle[first] - middle[second])[:, :2], axis=1)
        assert (apart - np.array(reach)[first] - np.array(reach)[second]).min() > 0.075 - 1e-9


def test_in_the_first_view_objects_are_seen_and_what_is_left_or_behind_is_plain(recipe, layouts):
    (camera,) = ring(1, 64)
    front = np.array([7.48, -6.51]) / np.hypot(7.48, -6.51)
    for layout in layouts[:40]:
        assert visible_pixels(camera, things(recipe, layout.factors)).min() >= 48
        middle = layout.factors["position"][:, :2]
        first, second = np.triu_indices(len(middle), 1)
        for direction in (front, front[::-1] * (-1, 1)):
            assert np.abs((middle[first] - middle[second]) @ direction).min() >= 0.09


def test_numbers_and_kinds_are_drawn_evenly(recipe, layouts):
    """Sizes are not quite: what is small and far away has too few pixels."""
    counts = np.bincount([len(layout.factors["size"]) for layout in layouts], minlength=7)
    assert counts[:3].sum() == 0 and counts[3:].min() > 20 and len(counts) == 7
    joined = {name: np.concatenate([layout.factors[name] for layout in layouts]) for name in layouts[0].factors}
    for name, kinds in (("shape", len(recipe.meshes)), ("material", 2), ("color", 8)):
        share = np.bincount(joined[name], minlength=kinds + 1)[1:] / len(joined[name])
        np.testing.assert_allclose(share, 1 / kinds, atol=0.07)
    assert 0.5 < (joined["size"] == 1).mean() < 0.7 and set(joined["size"]) == {1, 2}
    assert joined["position"][:, :2].min() < -2.8 and joined["position"][:, :2].max() > 2.8


def test_how_far_objects_are_turned():
    turned = {}
    for recipe in (CLEVR, GENERAL):
        turned[recipe] = np.concatenate([arrange(draws(i), recipe, 3, 6).factors["rotation"] for i in range(60)])
    np.testing.assert_allclose(np.histogram(turned[CLEVR], 6, (0, 360))[0] / len(turned[CLEVR]), 1 / 6, atol=0.08)
    beside = (turned[GENERAL] + 15) % 30 - 15
    assert np.abs(beside).max() <= 2 and beside.min() < -1.8 and beside.max() > 1.8
    assert set(np.rint(turned[GENERAL] / 30)) == set(range(12))


def test_the_pose_turns_scales_and_places():
    factors = {"shape": [1], "size": [2], "material": [2], "color": [3], "rotation": [90.0]}
    factors = {name: np.array(value) for name, value in factors.items()}
    (thing,) = things(CLEVR, factors | {"position": np.array([[1.0, 2, 3]])})
    np.testing.assert_allclose(thing.pose @ (1, 0, 0, 1), (1, 2.7, 3, 1), atol=1e-12)
    np.testing.assert_allclose(thing.pose @ (0, 1, 2, 1), (0.3, 2, 4.4, 1), atol=1e-12)
    assert thing.material == "metal" and thing.mesh is CLEVR.meshes[0]
    np.testing.assert_allclose(np.array(thing.color) * 255, (42, 75, 215))


def test_lamps_move_by_up_to_one(layouts):
    moved = np.stack([layout.lamps for layout in layouts]) - LAMPS
    assert np.abs(moved).max() <= 1 and (np.abs(moved).max(0) > 0.9).all() and np.abs(moved.mean(0)).max() < 0.2


@pytest.mark.parametrize("views", [1, 10])
def test_cameras_circle_from_that_of_clevr_on(views):
    cameras = ring(views, 32)
    locations = np.stack([camera.location for camera in cameras])
    np.testing.assert_allclose(locations[0], (7.48, -6.51, 5.34))
    turn = np.unwrap(np.arctan2(locations[:, 1], locations[:, 0]))
    np.testing.assert_allclose(np.diff(turn), np.radians(36))
    np.testing.assert_allclose(np.hypot(*locations[:, :2].T), np.hypot(7.48, 6.51))
    for camera in cameras:
        np.testing.assert_allclose(project(camera, np.zeros((1, 3)))[0, :2], 16)
        assert (camera.width, camera.height, camera.tangent) == (32, 32, 16 / 35)


def test_a_layout_repeats():
    first, again = (arrange(draws(3), GENERAL, 2, 8) for _ in range(2))
    for name, value in first.factors.items():
        np.testing.assert_array_equal(value, again.factors[name])


def test_impossible_scenes_end(monkeypatch):
    monkeypatch.setattr(views_layout, "TRIES", 20)
    corners = np.array([(0, 0, 0), (9, 0, 0), (0, 0.1, 0), (0, 0, 0.1)])
    needle = unit_mesh("needle", corners, np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]))
    assert isinstance(needle, Mesh)
    with pytest.raises(
        InputError, match="no scene of 2 objects that all show 48 of 64 x 64 pixels .* set fewer objects"
    ):
        arrange(draws(0), Recipe((needle,), SIZES), 2, 2)
