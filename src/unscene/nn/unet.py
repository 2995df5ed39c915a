"""The U-Net that MONet and GENESIS-V2 share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.nn.blocks import relu


def unet_channels(base: int, image_size: Sequence[int]) -> list[int]:
    """The usual widths: one block per halving down to 4 x 4, with twice the ``base`` channels on the small maps."""
    blocks = max(round(math.log2(min(image_size))) - 1, 2)
    wide = min(3, blocks - 1)
    return [base] * (blocks - wide) + [2 * base] * wide


class UNet(nn.Module):
    """Blocks of convolution, normalisation and ReLU going down and up again, and an MLP at the bottom.

    Maps are halved (rounding down) and doubled by nearest neighbours; on the way up each block sees its skip too.

    Args:
        in_channels: of the input.
        channels: of the blocks on the way down; the way up mirrors them.
        image_size: (H, W), fixed by the MLP.
        norm: "instance", or "group" with 8 groups.
        hidden: width of the MLP.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        image_size: Sequence[int],
        norm: Literal["instance", "group"] = "instance",
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            Block(n_in, n_out, norm) for n_in, n_out in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.up = nn.ModuleList(
            Block(2 * n_in, n_out, norm) for n_in, n_out in zip(channels, [channels[0], *channels[:-1]], strict=True)
        )
        self.small = [channels[-1], *(n // 2 ** (len(channels) - 1) for n in image_size)]
        sizes = [math.prod(self.small), hidden, hidden, math.prod(self.small)]
        self.mlp = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E H W"]:
        """Maps of the first block's width."""
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.interpolate(x, size=[n // 2 for n in x.shape[2:]], mode="nearest"))
            skips.append(x)
        x = x.flatten(1)
        for layer in self.mlp:
            x = relu(layer(x))
        x = x.unflatten(1, self.small)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], 1))
        return x


class Block(nn.Module):
    """Convolution of 3 x 3 without bias, normalisation with gain and bias, ReLU."""

    def __init__(self, n_in: int, n_out: int, norm: Literal["instance", "group"]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
        self.norm = nn.InstanceNorm2d(n_out, affine=True) if norm == "instance" else nn.GroupNorm(8, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.norm(self.conv(x)))
