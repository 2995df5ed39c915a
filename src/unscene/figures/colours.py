"""Colours of slots: one fixed palette, and the pictures that are made of nothing but labels and colours.

Everything here returns uint8 arrays with the colours on the last axis, ready for Pillow or matplotlib.
"""

import numpy as np
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from unscene.errors import InputError

# Gray, then Okabe & Ito's seven colours, then the colours farthest from all earlier ones (and from black and white)
# in CIELAB, also as seen with protanopia, deuteranopia and tritanopia (Machado et al. 2009).
_HEX = (
    "6e6e6e e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 9900ff aaff99 "
    "663311 222299 443355 9977ff 11dd99 bbaa55 004433 bbddff aa5544 661177"
)
_COLOURS = np.frombuffer(bytes.fromhex(_HEX), dtype=np.uint8).reshape(-1, 3)


def palette(num_colours: int) -> UInt8[np.ndarray, "K 3"]:
    """Colours of the slots or labels 0 .. num_colours - 1: gray first, the other 19 repeat from id 20 on."""
    index = np.arange(num_colours)
    return _COLOURS[np.where(index < len(_COLOURS), index, 1 + (index - 1) % (len(_COLOURS) - 1))]


def colour_labels(segmentation: Integer[Tensor, "*batch H W"]) -> UInt8[np.ndarray, "*batch H W 3"]:
    """Paint a label map in the slots' colours."""
    labels = segmentation.cpu().numpy()
    return palette(int(labels.max()) + 1)[labels]


def overlay(
    image: Float[Tensor, "*batch C H W"], segmentation: Integer[Tensor, "*batch H W"], opacity: float = 0.5
) -> UInt8[np.ndarray, "*batch H W 3"]:
    """The image seen through its segmentation, painted with ``opacity`` in the slots' colours."""
    blend = (1 - opacity) * to_rgb(image) + opacity * colour_labels(segmentation)
    return blend.round().astype(np.uint8)


def to_rgb(image: Float[Tensor, "*batch C H W"]) -> UInt8[np.ndarray, "*batch H W 3"]:
    """Displayable copy of a gray or RGB image: values clipped to [0, 1], scaled to 0 .. 255, channels last."""
    if image.shape[-3] not in (1, 3):
        raise InputError(f"cannot draw an image with {image.shape[-3]} channels; select 1 (gray) or 3 (RGB) of them")
    pixels = image.detach().float().clamp(0, 1).mul(255).round().byte().movedim(-3, -1).cpu().numpy()
    return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))


def to_rgba(
    image: Float[Tensor, "*batch C H W"], mask: Float[Tensor, "*batch H W"]
) -> UInt8[np.ndarray, "*batch H W 4"]:
    """Displayable copy of an image that is as opaque as its soft mask."""
    alpha = mask.detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return np.concatenate([to_rgb(image), alpha[..., None]], axis=-1)
