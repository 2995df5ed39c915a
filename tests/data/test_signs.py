"""Signs, recomputed from the factors or from the label map: outlines, faces, light and background."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from unscene.data import open_dataset
from unscene.data.sign_designs import DESIGNS, bar, disc, polygon, union
from unscene.data.signs import Signs
from unscene.errors import InputError


@pytest.fixture(scope="module")
def scenes():
    return numpy(Signs(600, num_classes=10, image_size=32).batch(range(600)))


def numpy(batch):
    return {name: value.numpy() for name, value in (batch | batch["factors"]).items() if name != "factors"}


def test_shapes_and_types(scenes):
    assert scenes["image"].shape == (600, 3, 32, 32) and scenes["image"].dtype == np.float32
    assert scenes["mask"].shape == (600, 32, 32) and set(np.unique(scenes["mask"])) == {0, 1}
    assert scenes["image"].min() >= 0 and scenes["image"].max() <= 1
    assert scenes["visibility"].all() and scenes["visibility"].shape == (600, 2)
    for name in ("class", "x", "y", "scale", "orientation"):
        assert scenes[name].shape == (600, 2) and not scenes[name][:, 0].any(), name
    assert len(Signs()) == 60_000 and Signs(4)[0]["image"].shape == (3, 28, 28)


def test_classes_are_equally_frequent(scenes):
    counts = np.bincount(scenes["class"][:, 1], minlength=11)
    assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > 1e-3
    assert set(np.unique(Signs(300, num_classes=3).batch(range(300))["factors"]["class"][:, 1])) == {1, 2, 3}


@pytest.mark.parametrize("options", [{}, {"clutter": 0, "image_size": (20, 32)}, {"num_classes": 10, "clutter": 7}])
def test_a_scene_does_not_depend_on_its_batch(options):
    order = [31, 2, 17, 2, 0, 9, 26]
    dataset = Signs(32, **options)
    whole, permuted = numpy(dataset.batch(range(32))), numpy(dataset.batch(order))
    elsewhere = numpy(pickle.loads(pickle.dumps(Signs(1000, **options))).batch(order))
    single = numpy(dataset.batch([17]))
    for name, value in whole.items():
        np.testing.assert_array_equal(permuted[name], value[order], name)
        np.testing.assert_array_equal(elsewhere[name], value[order], name)
        np.testing.assert_array_equal(single[name], value[[17]], name)


def test_splits_and_seeds_share_no_scene():
    streams = [Signs(100, split=split) for split in ("train", "val", "test")] + [Signs(100, seed=1)]
    assert len({image.numpy().tobytes() for stream in streams for image in stream.batch(range(100))["image"]}) == 400


CORNERS = {  # of the outlines that have any: the angles at which they are, in degrees
    **dict.fromkeys(("danger", "crossroads"), (-90, 30, 150)),
    "give way": (90, 210, 330),
    "priority road": (0, 90, 180, 270),
    "hospital": (45, 135, 225, 315),
}


def expected_area(name):
    """By the shoelace formula, or that of a circle."""
    if name not in CORNERS:
        return np.pi
    radius = 0.85 * np.sqrt(2) if name == "hospital" else 1
    u, v = radius * np.cos(np.radians(CORNERS[name])), radius * np.sin(np.radians(CORNERS[name]))
    return 0.5 * abs(np.dot(u, np.roll(v, -1)) - np.dot(v, np.roll(u, -1)))


@pytest.mark.parametrize("number", range(1, 11))
def test_area_and_place_of_the_label_map_are_those_of_the_outline(scenes, number):
    chosen = scenes["class"][:, 1] == number
    mask, scale = scenes["mask"][chosen], scenes["scale"][chosen, 1]
    expected = expected_area(list(DESIGNS)[number - 1]) * scale**2
    ratio = mask.sum((1, 2)) / expected
    assert abs(ratio.mean() - 1) < 0.02 and np.abs(ratio - 1).max() < 0.2  # perspective changes the area either way
    rows, columns = np.arange(32) + 0.5, np.arange(32) + 0.5
    y = (mask.sum(2) @ rows) / mask.sum((1, 2))
    x = (mask.sum(1) @ columns) / mask.sum((1, 2))
    assert np.abs(y - scenes["y"][chosen, 1]).max() < 1.6 and np.abs(x - scenes["x"][chosen, 1]).max() < 1.6
    assert abs((y - scenes["y"][chosen, 1]).mean()) < 0.3 and abs((x - scenes["x"][chosen, 1]).mean()) < 0.3


def test_orientation_is_clockwise():
    """The direction of the white bars of no-entry signs, from the moments of their pixels."""
    scenes = numpy(Signs(200, num_classes=2, image_size=48).batch(range(200)))
    chosen = scenes["class"][:, 1] == 1
    angle = scenes["orientation"][chosen, 1]
    measured = []
    for image, mask in zip(scenes["image"][chosen], scenes["mask"][chosen], strict=True):
        y, x = np.nonzero((image[1] > 0.28) & _shrunk(mask))
        (var_y, cov), (_, var_x) = np.cov(y, x)
        measured.append(0.5 * np.arctan2(2 * cov, var_x - var_y))  # y points down
    assert np.abs(measured - angle).max() < np.radians(5) and np.corrcoef(measured, angle)[0, 1] > 0.9
    assert np.abs(angle).max() <= np.radians(8) and angle.std() > np.radians(3)


def test_colours_are_an_affine_map_of_the_design_per_channel(scenes):
    """Red and white of a no-entry sign: gain is (white - red) / (0.95 - red's), and it is within its bounds."""
    chosen = (scenes["class"][:, 1] == 1) & (scenes["scale"][:, 1] > 12)
    image, x, y, scale = (scenes[name][chosen] for name in ("image", "x", "y", "scale"))
    rows = np.arange(len(image))
    column, row = x[:, 1].astype(int), y[:, 1].astype(int)
    white = image[rows, :, row, column]
    red = image[rows, :, (y[:, 1] + 0.6 * scale[:, 1]).astype(int), column]
    gain = ((white - red) / (0.95 - np.array([0.78, 0.08, 0.12])))[:, 1:]  # the reds are too close to tell
    unclipped = (white[:, 1:] < 1) & (red[:, 1:] > 0)
    assert unclipped.sum() > 30
    assert gain[unclipped].min() > 0.55 * 0.88 - 0.01 and gain[unclipped].max() < 1.12 + 0.01


def test_without_clutter_the_background_is_a_plane():
    dataset = Signs(20, clutter=0, image_size=(24, 32))
    y, x = np.mgrid[:24, :32]
    for i in range(20):
        scene = dataset[i]
        background = _shrunk(1 - scene["mask"].numpy())
        design = np.stack([np.ones(background.sum()), y[background], x[background]], 1)
        _, residual, *_ = np.linalg.lstsq(design, scene["image"].numpy()[:, background].T, rcond=None)
        assert residual.max() < 1e-9


def test_clutter_is_only_behind_the_sign():
    plain, cluttered = (numpy(Signs(50, clutter=clutter).batch(range(50))) for clutter in (0, 5))
    np.testing.assert_array_equal(plain["mask"], cluttered["mask"])
    inside = np.stack([_shrunk(mask) for mask in plain["mask"]])[:, None].repeat(3, 1)
    np.testing.assert_allclose(plain["image"][inside], cluttered["image"][inside], atol=1e-6)
    changed = (plain["image"] != cluttered["image"]).any(1)
    assert 0.3 < changed[plain["mask"] == 0].mean() < 1


def _shrunk(mask):
    """Without its outermost two pixels, which anti-aliasing mixes."""
    return torch.nn.functional.max_pool2d(-torch.from_numpy(mask)[None].float(), 5, 1, 2)[0].numpy() < 0


def test_signed_distances():
    u, v = np.float32([0, 1, 0, 3]), np.float32([0, 0, -2, 4])
    np.testing.assert_allclose(disc(2)(u, v), [-2, -1, 0, 3], atol=1e-6)
    box = bar(0, -2, 0, 2, 2)  # upright, 2 wide and 4 high
    np.testing.assert_allclose(box(u, v), [-1, 0, 0, 2], atol=1e-6)
    np.testing.assert_allclose(union(disc(2), box)(u, v), np.minimum(disc(2)(u, v), box(u, v)))
    right_triangle = polygon((0, 0), (3, 0), (0, 4))
    np.testing.assert_allclose(right_triangle(np.float32([1, 3]), np.float32([1, 4])), [-1, 2.4], atol=1e-6)


def test_every_part_of_a_face_lies_within_the_outline():
    v, u = np.mgrid[-1.2:1.2:97j, -1.2:1.2:97j].astype(np.float32)
    for name, ((_, outline), *parts) in DESIGNS.items():
        for _, part in parts:
            assert (outline(u, v)[part(u, v) <= 0] <= 0).all(), name


def test_grayscale_is_the_luma_of_the_same_scene():
    color, gray = (Signs(6, grayscale=switch).batch(range(6)) for switch in (False, True))
    red, green, blue = color["image"].unbind(1)
    torch.testing.assert_close(gray["image"], (0.299 * red + 0.587 * green + 0.114 * blue)[:, None])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1; there are signs of 2 to 10 classes"),
        ({"num_classes": 11}, "num_classes is 11; there are signs of 2 to 10"),
        ({"clutter": -1}, "clutter is -1; set the number of rectangles behind the sign, 0 for none"),
        ({"image_size": 0}, "image_size is 0; give one number of pixels"),
        ({"split": "dev"}, "unknown split 'dev'"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Signs(**options)


def test_it_opens_by_name():
    dataset = open_dataset("signs", "val", num_classes=4, image_size=[16, 24], clutter=1)
    assert type(dataset) is Signs and len(dataset) == 320 and dataset[0]["image"].shape == (3, 16, 24)
