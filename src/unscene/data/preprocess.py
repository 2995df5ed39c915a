"""From stored bytes to Scenes: conversions that several datasets share."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

LUMA = (0.299, 0.587, 0.114)  # ITU-R Rec. 601 weights of R, G, B
CLEVR_ROWS, CLEVR_COLUMNS = slice(29, 221), slice(64, 256)  # the central 192 x 192 of 240 x 320
CLEVR_SIZE = 128


def to_grayscale(image: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 1 H W"]:
    """Rec. 601 luma of RGB images; any leading axes (batch, frames, views) are kept."""
    red, green, blue = image.unbind(-3)  # elementwise, so that a scene is the same bit by bit in any batch
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).unsqueeze(-3)


def pixels_to_image(pixels: UInt8[Tensor, "*batch H W C"], grayscale: bool = False) -> Float[Tensor, "*batch _ H W"]:
    """Bytes to floats in [0, 1] (exactly byte / 255), channels first; ``grayscale`` converts RGB to its luma."""
    image = pixels.movedim(-1, -3).float() / 255
    return to_grayscale(image) if grayscale and image.shape[-3] == 3 else image


def image_to_pixels(image: Float[Tensor, "*batch C H W"]) -> UInt8[Tensor, "*batch H W C"]:
    """The nearest bytes to floats in [0, 1], channels last; the inverse of `pixels_to_image`."""
    return (image * 255).round().to(torch.uint8).movedim(-3, -1)


def masks_to_label_map(masks: np.ndarray, entity_axis: int, num_background: int = 1) -> np.ndarray:
    """Label map (..., H, W) uint8 of one mask per entity: the entity with the largest value, the first on ties.

    The first ``num_background`` entities all become 0, the others 1, 2, ...
    """
    labels = masks.argmax(axis=entity_axis)
    return np.maximum(labels - (num_background - 1), 0).astype(np.uint8)


def block_means(image: np.ndarray | Tensor, factor: int) -> np.ndarray | Tensor:
    """Images (..., H, W) at 1/``factor`` of their size: the means of blocks of pixels."""
    *leading, height, width = image.shape
    return image.reshape(*leading, height // factor, factor, width // factor, factor).mean((-3, -1))


def block_centers(labels: np.ndarray | Tensor, factor: int) -> np.ndarray | Tensor:
    """Label maps (..., H, W) at 1/``factor`` of their size: those at the middle of `block_means`' blocks."""
    return labels[..., factor // 2 :: factor, factor // 2 :: factor]


def crop_clevr(pixels: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """IODINE's view of CLEVR: pixels (240, 320, 3) and label map (240, 320) to 128 x 128.

    The central 192 x 192 is resized, bilinear without antialiasing (as in the reference) and rounded to
    bytes; the label map takes the nearest pixel. Sampling points are pixel centres.
    """
    image = torch.from_numpy(pixels[CLEVR_ROWS, CLEVR_COLUMNS].copy()).movedim(-1, 0)[None].float()
    image = interpolate(image, size=(CLEVR_SIZE, CLEVR_SIZE), mode="bilinear", align_corners=False)
    pixels = image[0].round().to(torch.uint8).movedim(0, -1).numpy()
    if mask is not None:
        labels = torch.from_numpy(mask[CLEVR_ROWS, CLEVR_COLUMNS].copy())[None, None]
        mask = interpolate(labels.float(), size=(CLEVR_SIZE, CLEVR_SIZE), mode="nearest-exact")[0, 0].byte().numpy()
    return pixels, mask
