"""The refinement core of iterative inference: image-like and flat inputs in, a change of the posterior out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.nn.blocks import conv, elu, linear


class RefinementNetwork(nn.Module):
    """Strided convolutions, average pool, MLP; joined by the flat inputs; LSTM (or none); linear head.

    Its image-like inputs are concatenated: first those of each slot and iteration, then those of the image
    alone. The first convolution is linear, so its share of the latter is computed once (`constant`).
    ``image_size`` replaces the average pool by a flattening, and then fixes H and W.
    """

    def __init__(
        self,
        slot_channels: int,
        constant_channels: int,
        vector_size: int,
        out_size: int,
        *,
        channels: Sequence[int],
        kernel_size: int,
        mlp: Sequence[int],
        lstm_size: int | None,
        image_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.split = [slot_channels, constant_channels]
        widths = [slot_channels + constant_channels, *channels]
        self.convs = nn.ModuleList(
            conv(n_in, n_out, kernel_size, stride=2) for n_in, n_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.image_size = image_size
        features = channels[-1]
        if image_size is not None:
            features *= math.prod(math.ceil(n / 2 ** len(channels)) for n in image_size)
        widths = [features, *mlp]
        self.mlp = nn.ModuleList(linear(n_in, n_out) for n_in, n_out in zip(widths[:-1], widths[1:], strict=True))
        self.lstm = nn.LSTMCell(widths[-1] + vector_size, lstm_size) if lstm_size else None
        self.head = linear(lstm_size or widths[-1] + vector_size, out_size)

    def constant(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E h w"]:
        """What the first convolution makes of the inputs that no iteration changes, with its bias."""
        first = self.convs[0]
        if maps.shape[1] == 0:
            return first.bias[:, None, None].expand(len(maps), -1, 1, 1)
        return F.conv2d(maps, first.weight.split(self.split, 1)[1], first.bias, first.stride, first.padding)

    def forward(
        self,
        maps: Float[Tensor, "B K C H W"],
        constant: Float[Tensor, "B E h w"],
        vectors: Float[Tensor, "N V"],
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """The change (N, O), then the new state: (hidden, cell) of the LSTM; no state is given to start with."""
        x = elu(self._first(maps, constant))
        for layer in self.convs[1:]:
            x = elu(layer(x))
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(vectors.dtype)
            x = x.mean((2, 3)) if self.image_size is None else x.flatten(1)
            for layer in self.mlp:
                x = elu(layer(x))
            x = torch.cat([x, vectors], 1)
            if self.lstm is not None:
                state = self.lstm(x, state or None)
                x = state[0]
            return self.head(x), *state

    def _first(self, maps: Tensor, constant: Tensor) -> Tensor:
        first = self.convs[0]
        maps = maps.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(maps, first.weight.split(self.split, 1)[0], None, first.stride, first.padding)
        return x + constant.repeat_interleave(len(x) // len(constant), 0)
