"""CLEVR: its scenes follow the recipe, and what is drawn agrees with the factors."""

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("mitsuba")
pytest.importorskip("pyoidn")

from unscene.data.multi_object import CLEVR_FACTORS
from unscene.data.preprocess import CLEVR_COLUMNS, CLEVR_ROWS, crop_clevr, to_grayscale
from unscene.data.rendering.clevr import CLEVR
from unscene.data.rendering.clevr_layout import COLORS, arrange, frame, things
from unscene.data.rendering.mitsuba import MitsubaRenderer
from unscene.data.rendering.stage import Stage
from unscene.errors import InputError

QUICK = {"samples": 1, "denoise": False, "variant": "scalar"}
CENTRE = np.array([7.48, -6.51, 5.34])


@pytest.fixture(scope="module")
def scenes():
    return CLEVR(6, image_size=(24, 24), **QUICK).batch(range(6))


@pytest.fixture(scope="module")
def layouts():
    dataset = CLEVR(120, **QUICK)
    return [arrange(dataset.draws([i]), 3, 10) for i in range(120)]


@pytest.fixture(scope="module")
def frames():
    """Whole frames, and how bright they are."""
    return CLEVR(4, image_size=(240, 320), most=6, **QUICK).batch(range(4))


def leaves(scenes):
    return {name: value for name, value in scenes.items() if name != "factors"} | scenes["factors"]


def test_shapes_and_types(scenes):
    assert scenes["image"].shape == (6, 3, 24, 24) and scenes["image"].dtype == torch.float32
    assert scenes["mask"].shape == (6, 24, 24) and scenes["mask"].dtype == torch.uint8
    assert scenes["visibility"].shape == (6, 11) and scenes["visibility"].dtype == torch.bool
    assert scenes["camera"].shape == (6, 4, 4) and scenes["camera"].dtype == torch.float32
    levels = scenes["image"] * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_factors_are_those_of_the_official_files(scenes):
    official = {name: (np.dtype(kind), *shape) for name, kind, *shape in CLEVR_FACTORS}
    assert scenes["factors"].keys() == official.keys()
    for name, (kind, *shape) in official.items():
        value = scenes["factors"][name].numpy()
        assert value.dtype == kind and value.shape == (6, 11, *(shape[0] if shape else ())), name


def test_a_scene_does_not_depend_on_its_batch(scenes):
    options = {"image_size": (24, 24), **QUICK}
    some = leaves(pickle.loads(pickle.dumps(CLEVR(900, **options))).batch([4, 1]))
    single = leaves(CLEVR(900, **options)[4])
    for name, value in leaves(scenes).items():
        assert torch.equal(some[name], value[[4, 1]]), name
        assert torch.equal(single[name], value[4]), name


def test_splits_and_seeds_share_no_scene():
    datasets = [CLEVR(9, **QUICK, **other) for other in ({}, {"split": "val"}, {"split": "test"}, {"seed": 1})]
    places = [arrange(dataset.draws([i]), 3, 10).camera.tobytes() for dataset in datasets for i in range(9)]
    assert len(set(places)) == 36


def test_what_a_scene_holds_does_not_depend_on_the_picture(scenes):
    wide = CLEVR(6, image_size=(12, 16), **QUICK).batch([0, 1])
    assert wide["image"].shape == (2, 3, 12, 16)
    for name in scenes["factors"]:
        assert torch.equal(wide["factors"][name], scenes["factors"][name][:2]), name


def test_distances(layouts):
    """Between the circles, and along and across the view."""
    for layout in layouts:
        centres = layout.factors["position"][:, :2]
        radius = np.array([0.7, 0.35])[layout.factors["size"] - 1]
        apart = centres[:, None] - centres
        others = ~np.eye(len(centres), dtype=bool)
        assert (np.linalg.norm(apart, axis=-1) - radius - radius[:, None])[others].min() >= 0.25 - 1e-9
        x, y = layout.camera[:2] / np.hypot(*layout.camera[:2])
        for axis in ((x, y), (-y, x)):
            assert np.abs(apart @ axis)[others].min() >= 0.4 - 1e-9
        assert np.abs(centres).max() <= 3


def test_camera_and_lamps_move_a_little(layouts):
    cameras, lamps = (np.array([getattr(layout, name) for layout in layouts]) for name in ("camera", "lamps"))
    for found, middle, reach in (
        (cameras, CENTRE, 0.5),
        (lamps, [[6.45, -2.91, 4.26], [-4.67, -4.01, 3.01], [-1.17, 2.65, 5.82]], 1.0),
    ):
        moved = np.abs(found - middle)
        assert 0.97 * reach < moved.max() <= reach
        np.testing.assert_allclose(moved.mean(), reach / 2, rtol=0.1)


def test_numbers_of_objects_and_kinds(layouts):
    """All numbers are equally likely, and kinds nearly: small things are hidden more often, and drawn anew."""
    counts = np.bincount([len(layout.factors["size"]) for layout in layouts], minlength=11)
    assert not counts[:3].any() and counts[3:].min() >= 5
    for name, kinds in (("shape", 3), ("size", 2), ("material", 2), ("color", 8)):
        values = np.concatenate([layout.factors[name] for layout in layouts])
        share = np.bincount(values, minlength=kinds + 1) / len(values)
        assert share[0] == 0
        np.testing.assert_allclose(share[1:], 1 / kinds, atol=0.12 if name in ("size", "shape") else 0.05)
    rotation = np.concatenate([layout.factors["rotation"] for layout in layouts])
    assert rotation.min() >= 0 and 350 < rotation.max() < 360


def test_every_object_has_200_pixels_in_the_frame(layouts):
    """As the renderer shows them, whose objects are a little smaller: their edges are rounded."""
    renderer = MitsubaRenderer(1, False, "scalar")
    for layout in sorted(layouts, key=lambda layout: -len(layout.factors["size"]))[:3]:
        stage = Stage(things(layout.factors), (frame(layout.camera),), layout.lamps, "backdrop")
        counts = np.bincount(renderer.labels(stage).ravel(), minlength=11)[1 : 1 + len(stage.things)]
        assert counts.min() >= 0.95 * 200


def test_objects_stand_on_the_ground(scenes):
    factors = scenes["factors"]
    there = factors["size"] > 0
    expected = torch.tensor([0.0, 0.7, 0.35])[factors["size"].long()]
    torch.testing.assert_close(factors["z"], expected, rtol=0, atol=1e-6)
    assert all(not value[~there].any() for value in factors.values())
    assert not there[:, 0].any() and (there[:, 1:].sum(1) >= 3).all()


def test_the_window_is_the_crop_of_the_frame(frames):
    """To the pixel at the frame's own resolution; at 128 x 128 but at the borders of objects."""
    same = CLEVR(4, image_size=(192, 192), most=6, **QUICK).batch(range(4))["mask"]
    crop = frames["mask"][:, CLEVR_ROWS, CLEVR_COLUMNS]
    assert (same != crop).sum() <= 4
    window = CLEVR(4, most=6, **QUICK).batch([2])["mask"][0].numpy()
    whole = frames["mask"][2].numpy()
    _, resized = crop_clevr(np.zeros((240, 320, 3), np.uint8), whole)
    shifted = [np.roll(resized, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    inside = np.min(shifted, axis=0) == np.max(shifted, axis=0)
    assert inside.mean() > 0.8 and (window == resized)[inside].all()


def test_pixel_coords_are_where_the_objects_are(frames):
    """At its centre an object is seen, or one that is nearer."""
    seen = 0
    for mask, coords, size in zip(
        frames["mask"], frames["factors"]["pixel_coords"], frames["factors"]["size"], strict=True
    ):
        for i in range(1, 1 + int((size > 0).sum())):
            column, row, depth = coords[i]
            assert column == column.round() and row == row.round()
            if 0 <= column < 320 and 0 <= row < 240:
                found = int(mask[int(row), int(column)])
                assert found > 0 and coords[found, 2] <= depth
                seen += found == i
    assert seen > 12


def test_camera_projects_to_pixel_coords(frames):
    """A lens of 35 in front of a sensor 32 wide, on 320 x 240 pixels."""
    for camera in frames["camera"].double():
        assert (camera[:3, 3] - torch.from_numpy(CENTRE)).abs().max() <= 0.5
        toward = -camera[:3, 3] / camera[:3, 3].norm()
        torch.testing.assert_close(camera[:3, 2], toward, rtol=0, atol=1e-6)
    position = torch.stack([frames["factors"][name] for name in ("x", "y", "z")], dim=-1).double()
    pose = frames["camera"].double()
    own = (position - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    expected = own[..., :2] / own[..., 2:] * (320 * 35 / 32) + torch.tensor([160.0, 120.0])
    there = frames["factors"]["size"] > 0
    found = frames["factors"]["pixel_coords"].double()
    assert (found[..., :2] - expected)[there].abs().max() <= 0.501
    torch.testing.assert_close(found[..., 2][there], own[..., 2][there], rtol=0, atol=1e-4)


def test_visibility_agrees_with_the_mask(scenes):
    for i in range(11):
        assert torch.equal(scenes["visibility"][:, i], (scenes["mask"] == i).flatten(1).any(1))
    assert (scenes["visibility"][:, 1:] <= (scenes["factors"]["size"][:, 1:] > 0)).all()


def test_it_is_as_bright_as_clevr():
    """Its generator's images have been measured by others: means of 120, 119, 117 of 255, deviations of 24."""
    image = 255 * CLEVR(12, image_size=(48, 64), samples=4, variant="scalar").batch(range(12))["image"]
    mean, deviation = image.mean((0, 2, 3)), image.std((0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor([120.0, 119.0, 117.0]), rtol=0, atol=9)
    assert ((deviation > 17) & (deviation < 31)).all()


def test_objects_have_their_colors():
    image = CLEVR(3, image_size=(120, 160), fewest=3, most=4, samples=4, variant="scalar").batch(range(3))
    linear = torch.tensor(list(COLORS.values())) / 255
    for picture, mask, color in zip(image["image"], image["mask"], image["factors"]["color"], strict=True):
        for i in range(1, 5):
            if color[i] > 0 and (mask == i).sum() > 60:
                found = picture[:, mask == i].pow(2.2).mean(1)
                expected = linear[int(color[i]) - 1]
                cosine = (found @ expected) / found.norm() / expected.norm()
                assert cosine > 0.93


def test_grayscale(scenes):
    gray = CLEVR(6, image_size=(24, 24), grayscale=True, **QUICK)[1]["image"]
    assert torch.equal(gray, to_grayscale(scenes["image"][1]))


def test_provenance():
    found = CLEVR(1, samples=9, denoise=False, variant="scalar").provenance()
    assert found.items() >= {"variant": "scalar_rgb", "samples": "9", "denoiser": "none"}.items()
    assert found["renderer"].startswith("mitsuba ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fewest": 0}, "cannot draw 0 to 10 objects; set 1 <= fewest <= most <= 10"),
        ({"fewest": 4, "most": 3}, "cannot draw 4 to 3 objects"),
        ({"most": 11}, "cannot draw 3 to 11 objects"),
        (
            {"image_size": (128, 64)},
            r"image_size is \(128, 64\); set a square window like \(128, 128\) or a frame of 3 : 4",
        ),
        ({"image_size": (0, 0)}, r"image_size is \(0, 0\)"),
        ({"image_size": (3, 4, 5)}, r"image_size is \(3, 4, 5\)"),
        ({"samples": 0}, "samples is 0; a pixel needs at least 1"),
        ({"renderer": "povray"}, "unknown renderer 'povray'; there is only mitsuba"),
        ({"variant": "cuda"}, "unknown variant 'cuda'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        CLEVR(**{"num_scenes": 4, "variant": "scalar", **options})
