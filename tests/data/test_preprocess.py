import numpy as np
import pytest
import torch

from unscene.data.preprocess import crop_clevr, image_to_pixels, masks_to_label_map, pixels_to_image, to_grayscale

RNG = np.random.default_rng(0)


def test_grayscale_is_rec_601_luma():
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.5, 0.25, 1]])
    luma = to_grayscale(colors[:, :, None, None])
    torch.testing.assert_close(luma.flatten(), torch.tensor([0.299, 0.587, 0.114, 1.0, 0.41025]))


def test_grayscale_keeps_leading_axes_and_dtype():
    video = torch.rand(2, 5, 3, 4, 6, dtype=torch.float64)
    luma = to_grayscale(video)
    assert luma.shape == (2, 5, 1, 4, 6) and luma.dtype == torch.float64
    torch.testing.assert_close(luma[1, 4, 0], (video[1, 4] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0))


def test_every_byte_becomes_itself_over_255_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 4, 64, 1)
    image = pixels_to_image(pixels)
    assert image.shape == (1, 1, 4, 64) and image.dtype == torch.float32
    assert image.flatten().tolist() == [float(np.float32(byte) / np.float32(255)) for byte in range(256)]
    assert torch.equal(image_to_pixels(image), pixels)


def test_grayscale_leaves_one_channel_alone():
    pixels = torch.randint(256, (2, 3, 5, 1), dtype=torch.uint8)
    assert torch.equal(pixels_to_image(pixels, grayscale=True), pixels_to_image(pixels))
    assert pixels_to_image(pixels.expand(2, 3, 5, 3), grayscale=True).shape == (2, 1, 3, 5)


@pytest.mark.parametrize("axis", [0, 2])
def test_label_map_of_masks(axis):
    labels = RNG.integers(0, 7, (4, 6))
    masks = np.moveaxis(255 * (labels == np.arange(7)[:, None, None]).astype(np.uint8), 0, axis)
    label_map = masks_to_label_map(masks, axis)
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, labels)


def test_several_background_entities_become_0():
    masks = np.eye(6, dtype=np.uint8)[:, None] * 255  # entity i is pixel (0, i)
    assert masks_to_label_map(masks, 0, num_background=4).tolist() == [[0, 0, 0, 0, 1, 2]]


def test_a_pixel_of_no_entity_is_background():
    assert masks_to_label_map(np.zeros((3, 2, 2), np.uint8), 0).tolist() == [[0, 0], [0, 0]]


def test_clevr_is_cropped_and_resized_at_pixel_centres():
    pixels = RNG.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    labels = RNG.integers(0, 11, (240, 320), dtype=np.uint8)
    image, mask = crop_clevr(pixels, labels)

    position = (np.arange(128) + 0.5) * 1.5 - 0.5  # of an output pixel's centre within the 192 x 192
    low, weight = np.floor(position).astype(int), position % 1
    crop = pixels[29:221, 64:256].astype(float)
    rows = crop[low] * (1 - weight)[:, None, None] + crop[low + 1] * weight[:, None, None]
    expected = rows[:, low] * (1 - weight)[:, None] + rows[:, low + 1] * weight[:, None]
    assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    assert np.abs(image - expected).max() <= 0.5 + 1e-4

    nearest = np.floor((np.arange(128) + 0.5) * 1.5).astype(int)
    np.testing.assert_array_equal(mask, labels[29:221, 64:256][nearest][:, nearest])


def test_clevr_without_labels():
    assert crop_clevr(np.zeros((240, 320, 3), np.uint8), None)[1] is None
