"""The U-Net that MONet and GENESIS-V2 share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.nn.blocks import relu
from unscene.nn.norm_relu import NormRelu


def unet_channels(base: int, image_size: Sequence[int]) -> list[int]:
    """The usual widths: one block per halving down to 4 x 4, with twice the ``base`` channels on the small maps."""
    blocks = max(round(math.log2(min(image_size))) - 1, 2)
    wide = min(3, blocks - 1)
    return [base] * (blocks - wide) + [2 * base] * wide


class UNet(nn.Module):
    """Blocks of convolution, normalisation and ReLU going down and up again, and an MLP at the bottom.

    Maps are halved and doubled by nearest neighbours; on the way up each block sees its skip too. An odd size is halved
    rounding down, and on the way up the enlarged maps go on by two copies of their border and are cut off behind the
    convolution, so that they end one pixel beyond the skip.

    Args:
        in_channels: of the input.
        channels: of the blocks on the way down; the way up mirrors them.
        image_size: (H, W), fixed by the MLP.
        norm: "instance", or "group" with 8 groups.
        hidden: width of the MLP.

    Raises:
        InputError: nothing is left of the image after so many halvings.
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
        if 0 in self.small:
            raise InputError(
                f"image_size is {tuple(image_size)}; the U-Net halves it {len(channels) - 1} times, so it must be at "
                f"least {2 ** (len(channels) - 1)} x {2 ** (len(channels) - 1)}, or the U-Net have fewer channels"
            )
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
            x = block(x, skip)
        return x


class Block(nn.Module):
    """Convolution of 3 x 3 without bias, normalisation with gain and bias, ReLU."""

    def __init__(self, n_in: int, n_out: int, norm: Literal["instance", "group"]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
        self.norm = NormRelu(n_out, groups=n_out if norm == "instance" else 8)

    def forward(self, x: Float[Tensor, "B C h w"], skip: Float[Tensor, "B S H W"] | None = None) -> Tensor:
        """With ``skip``, of x enlarged to its size and of skip together (B, C + S, H, W)."""
        return self.norm(self.conv(x) if skip is None else self._joined(x, skip))

    def _joined(self, x: Tensor, skip: Tensor) -> Tensor:
        """The convolution of both, without the enlarged and joined maps in memory.

        The four pixels that a pixel is copied to meet the same weights again, so enlarging and convolution are one
        transposed convolution of stride 2, whose kernel is theirs summed over 2 x 2 boxes: 16 instead of 36 products.
        """
        if x.shape[2:] == skip.shape[2:]:
            return self.conv(torch.cat([x, skip], 1))
        odd_rows, odd_columns = (n % 2 for n in skip.shape[2:])
        if odd_rows or odd_columns:
            x = F.pad(x, (0, odd_columns, 0, odd_rows), mode="replicate")
        of_x, of_skip = self.conv.weight.split([x.shape[1], skip.shape[1]], 1)
        boxes = F.avg_pool2d(of_x.flip(2, 3), 2, stride=1, padding=1, divisor_override=1).transpose(0, 1)
        enlarged = F.conv_transpose2d(x, boxes, stride=2, padding=1)[:, :, : skip.shape[2], : skip.shape[3]]
        return F.conv2d(skip, of_skip, padding=1).add_(enlarged)
