import numpy as np
import pytest
import torch

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, overlay, palette, to_rgb, to_rgba


def test_palette_starts_gray_and_is_the_same_for_any_number_of_slots():
    assert len(set(palette(20)[0])) == 1
    np.testing.assert_array_equal(palette(20)[:4], palette(4))


def test_twenty_colours_differ_clearly_and_stay_different_to_a_deuteranope():
    # Machado, Oliveira and Fernandes (2009), deuteranomaly of severity 1.0, applied to linear RGB.
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    )
    for matrix, least in ((np.eye(3), 50), (deuteranopia, 30)):
        linear = (palette(20) / 255) ** 2.2
        seen = (linear @ matrix.T).clip(0, 1) ** (1 / 2.2) * 255
        distance = np.linalg.norm(seen[:, None] - seen, axis=-1) + 1e9 * np.eye(20)
        assert distance.min() > least


def test_palette_repeats_without_a_second_gray():
    colours = palette(45)
    np.testing.assert_array_equal(colours[20:39], colours[1:20])
    assert (colours[1:] != colours[0]).any(1).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_colour_labels_paints_each_label(dtype):
    labels = torch.tensor([[0, 2, 1], [5, 5, 0]], dtype=dtype)
    painted = colour_labels(labels[None])
    assert painted.shape == (1, 2, 3, 3) and painted.dtype == np.uint8
    for (y, x), label in np.ndenumerate(labels.numpy()):
        assert tuple(painted[0, y, x]) == tuple(palette(6)[label])


def test_overlay_blends_image_and_colour():
    image, labels = torch.full((1, 2, 3), 0.4), torch.ones(2, 3, dtype=torch.int64)
    expected = np.round(0.25 * palette(2)[1] + 0.75 * 102).astype(np.uint8)
    np.testing.assert_array_equal(overlay(image, labels, opacity=0.25), np.broadcast_to(expected, (2, 3, 3)))


def test_to_rgb_clips_rounds_and_repeats_gray():
    image = torch.tensor([[[-0.5, 0.5, 1.5]]])  # C H W = 1 1 3
    np.testing.assert_array_equal(to_rgb(image)[0], [[0] * 3, [128] * 3, [255] * 3])


def test_to_rgba_takes_the_mask_as_opacity():
    rgba = to_rgba(torch.ones(2, 3, 4, 5), torch.full((2, 4, 5), 0.2))
    assert rgba.shape == (2, 4, 5, 4)
    assert (rgba[..., 3] == 51).all()


def test_to_rgb_refuses_other_channel_counts():
    with pytest.raises(InputError, match=r"cannot draw an image with 2 channels; select 1 \(gray\) or 3 \(RGB\)"):
        to_rgb(torch.zeros(2, 4, 4))
