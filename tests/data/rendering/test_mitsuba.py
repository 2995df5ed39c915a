"""MitsubaRenderer against closed forms: who is seen where, and how bright the ground is; pixels that repeat."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("mitsuba")
pytest.importorskip("pyoidn")

from unscene.data.rendering import meshes, mitsuba, studio
from unscene.data.rendering.denoise import denoiser_name
from unscene.data.rendering.mitsuba import MitsubaRenderer
from unscene.data.rendering.probe import llvm_works
from unscene.data.rendering.stage import Camera, Mesh, Stage, Thing
from unscene.data.rendering.visibility import solid_labels
from unscene.data.solids import HALF_EDGE, Solid
from unscene.errors import InputError

LAMPS = np.array([[6.45, -2.91, 4.26], [-4.67, -4.01, 3.01], [-1.17, 2.65, 5.82]])
CAMERA = Camera(np.array([7.48, -6.51, 5.34]), np.zeros(3), 64, 48, 16 / 35)
SHAPES = {"cube": meshes.cube, "sphere": meshes.sphere, "cylinder": meshes.cylinder}
BLACK = np.zeros(3)
SOLIDS = [
    Solid("sphere", 0.7, np.array([1.0, -0.5, 0.7]), 0.0, BLACK),
    Solid("sphere", 0.7, np.array([-0.6, 1.0, 0.7]), 0.0, BLACK),
    Solid("cube", 0.7, np.array([-1.5, -1.4, 0.7 * HALF_EDGE]), 0.5, BLACK),
    Solid("cylinder", 0.7, np.array([2.0, 2.0, 0.7]), 0.0, BLACK),
]


def thing(solid, color=(0.7, 0.1, 0.1), material="rubber"):
    pose = np.eye(4)
    cos, sin = math.cos(solid.turn), math.sin(solid.turn)
    scale = solid.size * (HALF_EDGE if solid.shape == "cube" else 1)
    pose[:3, :3] = scale * np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    pose[:3, 3] = solid.location
    return Thing(SHAPES[solid.shape](), pose, color, material)


def stage(things=None, cameras=(CAMERA,), floor="backdrop"):
    return Stage(tuple(map(thing, SOLIDS)) if things is None else things, cameras, LAMPS, floor)


@pytest.fixture(scope="module")
def renderer():
    return MitsubaRenderer(samples=4, variant="scalar")


@pytest.fixture(scope="module")
def pictures(renderer):
    return renderer.render(stage())


def test_types(pictures):
    assert pictures.image.shape == (1, 48, 64, 3) and pictures.image.dtype == np.uint8
    assert pictures.mask.shape == (1, 48, 64) and pictures.mask.dtype == np.uint8


def test_labels_are_what_the_solids_closed_forms_say(renderer):
    """All things are of one material and some of one mesh; the bevels and the meshes' edges cost a few pixels."""
    camera = CAMERA._replace(width=160, height=120, shift=0.05)
    expected = solid_labels(camera, SOLIDS)
    found = renderer.labels(stage(cameras=(camera,)))[0]
    differs = found != expected
    assert differs.sum() < 0.04 * (expected > 0).sum()
    assert set(np.unique(found)) == {0, 1, 2, 3, 4}
    again = renderer.labels(stage(cameras=(camera,)))[0]  # later scenes of the process count from the beginning
    assert np.array_equal(found, again)


def test_the_mask_is_that_of_the_picture(renderer, pictures):
    """Things of a color of their own are seen where the mask has them."""
    assert np.array_equal(renderer.labels(stage()), pictures.mask)
    colors = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0)]
    things = tuple(thing(solid, color) for solid, color in zip(SOLIDS, colors, strict=True))
    image, mask = (part[0] for part in renderer.render(stage(things)))
    for k, color in enumerate(colors, start=1):
        strong = image[mask == k][:, np.array(color) > 0].mean()
        weak = image[mask == k][:, np.array(color) == 0].mean()
        assert strong > 1.5 * weak


def test_cameras_see_the_same_moment_beside_each_other(renderer, pictures):
    west = CAMERA._replace(location=np.array([-7.0, -6.0, 5.0]), tangent=0.4)
    both = renderer.render(stage(cameras=(CAMERA, west)))
    assert np.array_equal(both.mask[0], pictures.mask[0])
    assert np.array_equal(both.mask[1], renderer.labels(stage(cameras=(west,)))[0])
    alone = [pictures, renderer.render(stage(cameras=(west,)))]
    for view in range(2):
        difference = both.image[view].astype(float) - alone[view].image[0]
        assert np.abs(difference).mean() < 4  # their noise differs
    assert np.abs(both.image[0].astype(float) - both.image[1]).mean() > 14


@pytest.mark.parametrize("samples", [2, 8, 9])
def test_any_number_of_samples_shows_the_same(pictures, samples):
    """Numbers that are no squares, too."""
    found = MitsubaRenderer(samples, variant="scalar").render(stage()).image.astype(float)
    assert np.abs(found - pictures.image).mean() < 4


def test_how_bright_the_ground_is(renderer):
    """In the middle of a round floor without anything on it: all lights face it, and nothing else lights it."""
    down = Camera(np.array([0.0, -0.1, 9.0]), np.zeros(3), 8, 8, 0.02)
    light = 0.05 * math.pi * np.ones(3)
    for place, lamp in [*zip(LAMPS, studio.LAMPS.values(), strict=True), (studio.SUN, studio.SUNLIGHT)]:
        distance = np.linalg.norm(place)
        light += lamp.power / math.pi / distance**2 * place[2] / distance * np.array(lamp.color)
    linear = 0.8 / math.pi * light
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    image = MitsubaRenderer(64, False, "scalar").render(stage((), (down,), "full")).image
    np.testing.assert_allclose(image.mean((0, 1, 2)), expected, atol=1.5)


def test_the_sun_gives_half_of_the_light():
    part = {
        name: lamp.power / np.linalg.norm(place) ** 3 * place[2]
        for (name, lamp), place in zip(
            [*studio.LAMPS.items(), ("sun", studio.SUNLIGHT)], [*LAMPS, studio.SUN], strict=True
        )
    }
    assert 0.45 < part["sun"] / sum(part.values()) < 0.6


def test_metal_tints_all_that_it_mirrors_and_rubber_shines_white(renderer):
    """Of a pure color, metal reflects nothing else."""
    for material in ("metal", "rubber"):
        things = tuple(thing(solid, (1.0, 0.0, 0.0), material) for solid in SOLIDS[:1])
        image, mask = (part[0] for part in renderer.render(stage(things, floor="full")))
        red, green, blue = np.median(image[mask == 1], axis=0)
        assert red > 50 and (max(green, blue) < 2) == (material == "metal")


def test_no_sample_is_brighter_than_allowed(monkeypatch):
    """The close view of a mirror, in which the sun is seen."""
    ball = thing(Solid("sphere", 1.5, np.array([0.0, 0.0, 1.5]), 0.0, BLACK), (0.9,) * 3, "metal")
    mirror = stage((ball,), (CAMERA._replace(tangent=0.2),))
    mi = mitsuba._mitsuba("scalar_rgb")
    scene = mitsuba._load(mi, mirror)

    def brightest():
        return MitsubaRenderer(16, False, "scalar")._light(mi, scene, mirror).max()

    assert brightest() <= mitsuba.BRIGHTEST
    monkeypatch.setattr(mitsuba, "BRIGHTEST", 1e9)
    assert brightest() > 8


def digest(threads):
    import drjit

    renderer = MitsubaRenderer(samples=4, variant="scalar")
    mitsuba._mitsuba("scalar_rgb")
    drjit.set_thread_count(threads)
    picture = renderer.render(stage())
    return hashlib.md5(picture.image.tobytes() + picture.mask.tobytes()).hexdigest()


def test_the_same_pixels_in_another_process_with_more_threads():
    """Denoised, in tiles."""
    before = digest(2)
    code = f"import runpy; print(runpy.run_path({__file__!r})['digest'](1))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert before == other == digest(2)


def test_another_stage_has_other_noise(renderer, pictures):
    moved = stage()._replace(lamps=LAMPS + [[0.01, 0, 0]])
    difference = renderer.render(moved).image.astype(float) - pictures.image
    assert (difference != 0).mean() > 0.5
    assert np.array_equal(renderer.render(stage()).image, pictures.image)


def test_flat_meshes():
    """Those without normals are drawn, too."""
    box = meshes.cube()
    flat = Mesh("flat", box.vertices, box.faces)
    picture = MitsubaRenderer(4, False, "scalar").render(
        stage((Thing(flat, np.diag([1.0, 1.0, 1.0, 1.0]), (0.5,) * 3, "rubber"),))
    )
    assert (picture.mask == 1).sum() > 100


def test_description(renderer):
    import mitsuba as package

    expected = {"renderer": f"mitsuba {package.__version__}", "variant": "scalar_rgb", "samples": "4"}
    assert renderer.describe() == expected | {"denoiser": denoiser_name()}
    assert MitsubaRenderer(9, False, "scalar").describe()["denoiser"] == "none"


def test_llvm_shows_the_same():
    if not llvm_works():
        pytest.skip("no LLVM that Mitsuba can use")
    scalar, llvm = (MitsubaRenderer(16, True, variant).render(stage()) for variant in ("scalar", "llvm"))
    assert np.array_equal(scalar.mask, llvm.mask)
    assert np.abs(scalar.image.astype(float) - llvm.image).mean() < 2
    assert np.array_equal(MitsubaRenderer(16, True, "llvm").render(stage()).image, llvm.image)


def test_bad_input(renderer):
    with pytest.raises(InputError, match="samples is 0; a pixel needs at least 1"):
        MitsubaRenderer(0)
    crowd = stage((thing(SOLIDS[0]),) * 256)
    with pytest.raises(InputError, match="the stage has 256 things, and a label map room for 255; take some away"):
        renderer.render(crowd)


def test_rays_that_are_not_cast_meet_nothing(renderer, monkeypatch):
    """Also of things at the border, and of one that reaches behind the camera."""
    plain = stage()
    few = renderer.labels(plain)
    behind = plain._replace(things=(plain.things[0]._replace(pose=np.diag([30.0, 30.0, 0.1, 1.0])), *plain.things))
    few_behind = renderer.labels(behind)
    monkeypatch.setattr(
        "unscene.data.rendering.mitsuba._near_things", lambda camera, _: np.ones((camera.height, camera.width), bool)
    )
    np.testing.assert_array_equal(few, renderer.labels(plain))
    np.testing.assert_array_equal(few_behind, renderer.labels(behind))
    assert few.any() and not few.all() and (few_behind == 1).any()
