"""Gated convolutions, and the encoder and decoder that GENESIS makes its masks with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Gated(nn.Module):
    """Values times sigmoid(gates), the two halves of what a convolution gives, without another activation.

    Args:
        conv: a convolution of either kind, to twice as many channels as come out here.
        norm: batch normalisation of both halves.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, norm: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels) if norm else nn.Identity()

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N E h w"]:
        values, gates = self.norm(self.conv(x)).chunk(2, 1)
        # What F.glu does, whose gradient is not channels last: that slows down itself and the layers below.
        return values * gates.contiguous(memory_format=torch.channels_last).sigmoid()


class GatedEncoder(nn.Module):
    """Gated convolutions, and one more that sees the whole of the last map: a code of an image.

    Args:
        in_channels: of the image.
        channels: of the convolutions.
        strides: of the convolutions.
        image_size: (H, W), fixed by the last one.
        code_size: E.
        kernel_size: of all but the last.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int],
        image_size: Sequence[int],
        code_size: int,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *(
                Gated(nn.Conv2d(n_in, 2 * n_out, kernel_size, stride, kernel_size // 2))
                for n_in, n_out, stride in zip([in_channels, *channels[:-1]], channels, strides, strict=True)
            )
        ).to(memory_format=torch.channels_last)
        self.code = nn.Linear(channels[-1] * math.prod(_smallest(image_size, strides)), 2 * code_size)

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E"]:
        """The code, in float32 (or the dtype of the weights) whatever the convolutions run in."""
        return F.glu(self.code(self.convs(image).flatten(1)), 1).to(self.code.weight.dtype)


class GatedDecoder(nn.Module):
    """From a latent vector to maps of the size of an image: the encoder's way back, with one more convolution.

    Args:
        latent_size: D.
        channels: of the first map, which is as large as the encoder's last, and of the convolutions that follow.
        strides: of the encoder.
        image_size: (H, W); maps are cropped to it where the strides do not divide it.
        out_channels: of the maps.
        kernel_size: of all but the first and the last convolution.
    """

    def __init__(
        self,
        latent_size: int,
        channels: Sequence[int],
        strides: Sequence[int],
        image_size: Sequence[int],
        out_channels: int = 1,
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        self.image_size = tuple(image_size)
        start = nn.ConvTranspose2d(latent_size, 2 * channels[0], _smallest(image_size, strides))
        self.convs = nn.Sequential(
            Gated(start, norm=False),
            *(
                Gated(nn.ConvTranspose2d(n_in, 2 * n_out, kernel_size, stride, kernel_size // 2, stride - 1))
                for n_in, n_out, stride in zip([channels[0], *channels[:-1]], channels, reversed(strides), strict=True)
            ),
        ).to(memory_format=torch.channels_last)
        self.out = nn.Conv2d(channels[-1], out_channels, 1)

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N C H W"]:
        height, width = self.image_size
        return self.out(self.convs(z[:, :, None, None]))[:, :, :height, :width].to(z.dtype)


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation by what training has seen, not by the batch, in whatever mode the model is."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _smallest(image_size: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """The size of an image after convolutions that divide it by their strides, rounding up."""
    return tuple(math.ceil(n / math.prod(strides)) for n in image_size)
