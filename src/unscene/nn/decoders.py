"""Decoders from a latent vector to images: spatial broadcast and transposed convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.nn.blocks import (
    ACTIVATIONS,
    SoftPosition,
    compute_dtype,
    conv,
    deconv,
    elu,
    fourier_coordinates,
    linear,
)


class BroadcastDecoder(nn.Module):
    """Spatial broadcast decoder (Watters et al. 2019): z at every pixel, coordinates, convolutions.

    Works for any H and W. The first convolution sees a constant and a fixed map, so what it makes of z at a
    pixel depends only on which kernel taps fall inside the image. There are kernel x kernel such cases (one, where
    nothing is padded); each is a linear map of z, computed once and copied to its pixels. This is exact.

    Args:
        latent_size: D.
        channels: of the hidden convolutions.
        out_channels: of the last one, without activation.
        kernel_size: of all.
        octaves: waves added to the two linear coordinates (see `fourier_coordinates`).
        strides: of all convolutions, the first of them 1; a stride of 2 is a transposed convolution that doubles
            the size, so z is broadcast to a grid that much smaller. By default all 1.
        out_kernel: kernel size of the last convolution, where it has its own.
        padding: "valid" broadcasts z to a grid so much larger that convolutions without padding end at the image; with
            a number they pad so many pixels, and the grid is larger by what is lost all the same.
        position: the coordinates are channels beside z ("joined"), or a `SoftPosition` is "added" to it.
        activation: behind the hidden convolutions, "elu" or "relu".
    """

    def __init__(
        self,
        latent_size: int,
        channels: Sequence[int],
        out_channels: int,
        kernel_size: int,
        octaves: int = 0,
        strides: Sequence[int] | None = None,
        *,
        out_kernel: int | None = None,
        padding: Literal["same", "valid"] | int = "same",
        position: Literal["joined", "added"] = "joined",
        activation: Literal["elu", "relu"] = "elu",
    ) -> None:
        super().__init__()
        strides = [1] * (len(channels) + 1) if strides is None else list(strides)
        if len(strides) != len(channels) + 1 or strides[0] != 1 or not set(strides) <= {1, 2}:
            raise InputError(
                f"decoder_strides is {strides} for {len(channels) + 1} convolutions (the output's is the last); "
                "give one for each, 1 or 2, and 1 for the first"
            )
        kernels = [kernel_size] * len(channels) + [out_kernel or kernel_size]
        self.latent_size, self.octaves, self.activation = latent_size, octaves, ACTIVATIONS[activation]
        self.scale = math.prod(strides)
        self.position = SoftPosition(latent_size) if position == "added" else None
        widths = [latent_size if self.position else latent_size + 2 + 4 * octaves, *channels, out_channels]
        self.convs = nn.ModuleList(
            conv(n_in, n_out, kernel) if stride == 1 else deconv(n_in, n_out, kernel, stride)
            for n_in, n_out, kernel, stride in zip(widths[:-1], widths[1:], kernels, strides, strict=True)
        )
        self.margin = 0  # by which the grid is larger than the image, on each side
        if padding != "same":
            pad = 0 if padding == "valid" else padding
            self.margin = sum(kernel // 2 - pad for kernel in kernels)
            for layer in self.convs:
                layer.padding = (pad, pad)

    def prepare(self, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """What the first layer needs at one (H, W) whatever z is, to be computed once for many decodes.

        With HW the number of places at which that layer answers: its response to the coordinates, with bias
        (1, HW, C); to each latent dimension in each of P border cases (D, P, C); and, one-hot, which case a place
        is (HW, P).
        """
        first, grid = self.convs[0], self._grid(size)
        z_weight, xy_weight = first.weight.split([self.latent_size, first.in_channels - self.latent_size], dim=1)
        if self.position is None:
            coordinates = fourier_coordinates(grid, first.weight, self.octaves)
        else:
            coordinates, xy_weight = self.position(grid).to(first.weight), z_weight
        coordinates = F.conv2d(coordinates, xy_weight, first.bias, padding=first.padding)
        basis = torch.eye(self.latent_size).to(first.weight)[:, :, None, None]
        around = [min(n, first.kernel_size[0]) for n in grid]
        cases = F.conv2d(basis.expand(-1, -1, *around), z_weight, padding=first.padding)
        answers = coordinates.shape[2:]
        copy = torch.kron(*(_border_cases(n, 2 * first.padding[0] + 1) for n in answers)).to(first.weight.device)
        return coordinates.flatten(2).mT, cases.flatten(2).mT, copy.to(compute_dtype(first.weight))

    def forward(
        self, z: Float[Tensor, "N D"], size: tuple[int, int], coordinates: Tensor, cases: Tensor, copy: Tensor
    ) -> Float[Tensor, "N C H W"]:
        """Decode at (H, W) = ``size`` with what `prepare` returned for it."""
        seen = torch.einsum("nd,dpc->npc", z, cases)
        x = self.activation(torch.baddbmm(coordinates, copy.expand(len(z), -1, -1), seen))
        lost = self.convs[0].kernel_size[0] - 1 - 2 * self.convs[0].padding[0]
        x = x.mT.unflatten(2, [n - lost for n in self._grid(size)])  # channels last
        for layer in self.convs[1:-1]:
            x = self.activation(layer(x))
        return self.convs[-1](x)[..., : size[0], : size[1]]

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        return tuple(math.ceil(n / self.scale) + 2 * self.margin for n in size)


def _border_cases(n: int, taps: int) -> Int[Tensor, "n P"]:
    """One-hot: which row of a grid of at most ``taps`` rows has the same border as row i of n."""
    row = torch.arange(n)
    case = row.clamp(max=taps // 2).maximum(row - n + min(n, taps))
    return F.one_hot(case, min(n, taps))


class DeconvDecoder(nn.Module):
    """Ablation of the IODINE paper (4.3): MLP, 8 channels at 1/16 of the size, transposed convolutions.

    Four of stride 2 double the size to that of the image (then cropped if it is no multiple of 16), one of
    stride 1 follows, and a last one makes the output.
    """

    def __init__(
        self, latent_size: int, channels: int, out_channels: int, kernel_size: int, image_size: Sequence[int]
    ) -> None:
        super().__init__()
        self.small = (8, *(math.ceil(n / 16) for n in image_size))
        self.mlp = nn.Sequential(linear(latent_size, 512), nn.ELU(), linear(512, math.prod(self.small)), nn.ELU())
        self.deconvs = nn.ModuleList(
            deconv(8 if i == 0 else channels, channels, kernel_size, 2 if i < 4 else 1) for i in range(5)
        )
        self.out = conv(channels, out_channels, kernel_size)

    def prepare(self, size: tuple[int, int]) -> tuple[()]:
        return ()

    def forward(self, z: Float[Tensor, "N D"], size: tuple[int, int]) -> Float[Tensor, "N C H W"]:
        x = self.mlp(z).unflatten(1, self.small).contiguous(memory_format=torch.channels_last)
        for layer in self.deconvs:
            x = elu(layer(x))
        return self.out(x[..., : size[0], : size[1]])
