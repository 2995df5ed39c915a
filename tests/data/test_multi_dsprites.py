"""Multi-dSprites against supersampled shapes, their areas and the variants' colour rules."""

import colorsys

import numpy as np
import pytest
import torch
from scipy import stats

from unscene.data.multi_dsprites import REACH, MultiDSprites, ellipse, heart, hue_to_rgb, square
from unscene.errors import InputError

SPRITES = {"binarized": (2, 3), "colored_on_grayscale": (2, 5), "colored_on_colored": (1, 4)}
every_variant = pytest.mark.parametrize("variant", SPRITES)


def load(variant: str, count: int) -> dict[str, np.ndarray]:
    batch = MultiDSprites(count, variant=variant).batch(range(count))
    return {name: value.numpy() for name, value in (batch | batch["factors"]).items() if name != "factors"}


def contains(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Point-in-shape, from the shapes' definitions; v points down."""
    if shape == 1:
        return (abs(u) < 8.5) & (abs(v) < 8.5)
    if shape == 2:
        return (u / 12) ** 2 + (v / 7.5) ** 2 < 1
    side = 12.8  # a square on its tip, with discs of this diameter on its upper sides
    v = v - 0.3133 * side / 2**0.5
    reach = side / 2**1.5  # from the square's centre to the middle of a side, along each axis
    discs = [(u - x) ** 2 + (v + reach) ** 2 < (side / 2) ** 2 for x in (-reach, reach)]
    return (abs(u) + abs(v) < side / 2**0.5) | discs[0] | discs[1]


@every_variant
def test_images_equal_supersampled_ones(variant):
    scenes, fine = load(variant, 12), 16
    grid = (np.arange(64 * fine) + 0.5) / fine
    for scene in range(12):
        mask = np.zeros((64, 64), int)
        image = np.tile(scenes["color"][scene, 0][:, None, None], (64, 64))
        for i in np.flatnonzero(scenes["shape"][scene]):
            x, y, shape, angle, scale = (scenes[k][scene, i] for k in ("x", "y", "shape", "orientation", "scale"))
            dx, dy = np.meshgrid(grid - 16 - 32 * x, grid - 16 - 32 * y)
            u, v = (np.cos(angle) * dx + np.sin(angle) * dy) / scale, (np.cos(angle) * dy - np.sin(angle) * dx) / scale
            coverage = contains(shape, u, v).reshape(64, fine, 64, fine).mean((1, 3))
            mask[coverage >= 0.5] = i
            alpha = coverage if variant != "binarized" else coverage >= 0.5
            image = (1 - alpha) * image + alpha * scenes["color"][scene, i][:, None, None]
        assert (mask != scenes["mask"][scene]).mean() < 0.002
        assert np.abs(image - scenes["image"][scene]).mean() < 0.003


@pytest.mark.parametrize(
    ("signed_distance", "area"),
    [(square, 17**2), (ellipse, np.pi * 12 * 7.5), (heart, 6.4**2 * (4 + np.pi))],
)
def test_signed_distances(signed_distance, area):
    step = 0.02
    v, u = np.mgrid[-16:16:step, -16:16:step] + step / 2
    distance = signed_distance(u, v)
    inside = distance < 0
    assert inside.sum() * step**2 == pytest.approx(area, rel=2e-3)
    assert abs(u[inside].mean()) < 0.01 and abs(v[inside].mean()) < 0.01  # centred
    assert np.hypot(u, v)[inside].max() < REACH - 1
    slope = np.hypot(*np.gradient(distance, step))[np.abs(distance) < 0.1]
    assert np.quantile(np.abs(slope - 1), 0.99) < 0.05  # a distance in pixels


def test_a_heart_is_notched_above_and_pointed_below():
    height = np.linspace(-12, 12, 2401)
    on_axis = height[heart(np.zeros_like(height), height) < 0]
    beside = height[heart(np.full_like(height, 5.0), height) < 0]
    assert on_axis.min() > beside.min() + 1.5  # v points down: the lobes rise above the notch
    assert on_axis.max() > beside.max() + 4


@every_variant
def test_number_of_sprites(variant):
    scenes, (fewest, most) = load(variant, 600), SPRITES[variant]
    assert scenes["shape"].shape == (600, most + 1) and scenes["shape"].dtype == np.uint8
    present = scenes["shape"] > 0
    count = present.sum(1)
    np.testing.assert_array_equal(present[:, 1:], np.arange(most) < count[:, None])  # ids 1..count
    frequency = np.bincount(count, minlength=most + 1)
    assert not frequency[:fewest].any() and stats.chisquare(frequency[fewest:]).pvalue > 1e-3
    assert stats.chisquare(np.bincount(scenes["shape"][present])[1:]).pvalue > 1e-3
    for name in ("x", "y", "orientation", "scale", "color"):
        assert not scenes[name][:, 1:][~present[:, 1:]].any()
    assert not scenes["visibility"][:, 1:][~present[:, 1:]].any()
    assert scenes["visibility"][present].mean() > 0.97  # hidden only by chance


def test_continuous_factors_are_uniform():
    scenes = load("colored_on_grayscale", 600)
    present = scenes["shape"] > 0
    for name, low, high in (("x", 0, 1), ("y", 0, 1), ("scale", 0.5, 1), ("orientation", 0, 2 * np.pi)):
        assert scenes[name].dtype == np.float32
        assert stats.kstest(scenes[name][present], "uniform", (low, high - low)).pvalue > 1e-3


def test_binarized_is_white_on_black():
    scenes = load("binarized", 50)
    assert scenes["image"].shape == (50, 1, 64, 64) and scenes["color"].shape == (50, 4, 1)
    np.testing.assert_array_equal(scenes["image"][:, 0], scenes["mask"] > 0)


def test_colored_on_grayscale_has_saturated_sprites_on_gray():
    scenes = load("colored_on_grayscale", 200)
    sprites = scenes["color"][scenes["shape"] > 0]
    assert not sprites.min(1).any() and np.all(sprites.max(1) == 1)
    red, green, blue = scenes["color"][:, 0].T
    np.testing.assert_array_equal(red, green)
    np.testing.assert_array_equal(red, blue)
    assert stats.kstest(red, "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(scenes["image"][:, :, 0, 0], scenes["color"][:, 0])


def test_colored_on_colored_is_uniform_in_rgb():
    scenes = load("colored_on_colored", 300)
    for colors in (scenes["color"][:, 0], scenes["color"][scenes["shape"] > 0]):
        assert all(stats.kstest(channel, "uniform").pvalue > 1e-3 for channel in colors.T)
    np.testing.assert_array_equal(scenes["image"][:, :, 63, 63], scenes["color"][:, 0])


def test_hue_to_rgb_equals_colorsys():
    hue = np.linspace(0, 1, 97, endpoint=False)
    np.testing.assert_allclose(hue_to_rgb(hue[:, None]), [colorsys.hsv_to_rgb(h, 1, 1) for h in hue], atol=1e-6)


def test_images_stay_within_the_unit_interval():
    image = load("colored_on_grayscale", 300)["image"]
    assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1


def test_unknown_variant_is_refused():
    with pytest.raises(InputError, match="unknown variant 'gray' of Multi-dSprites; choose one of binarized, colored_"):
        MultiDSprites(variant="gray")


@pytest.mark.parametrize("variant", ["binarized", "colored_on_grayscale"])
def test_smaller_images_are_the_same_scenes(variant):
    large, small = (MultiDSprites(40, variant=variant, image_size=n).batch(range(40)) for n in (64, 16))
    assert small["image"].dtype == large["image"].dtype and small["image"].shape[-2:] == (16, 16)
    for row, column in ((0, 0), (7, 9)):
        block = large["image"][..., 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(small["image"][..., row, column], block.mean((2, 3)))
        assert small["mask"][:, row, column].equal(large["mask"][:, 4 * row + 2, 4 * column + 2])
    assert small["factors"]["x"].equal(large["factors"]["x"])
    ids = torch.arange(small["visibility"].shape[1])
    seen = (small["mask"].flatten(1)[:, None] == ids[None, :, None]).any(2)
    assert small["visibility"].equal(seen)


def test_other_sizes_are_refused():
    with pytest.raises(InputError, match="image_size is 48; Multi-dSprites come with 64, 32 or 16 pixels a side"):
        MultiDSprites(image_size=48)
