"""The refinement core of iterative inference: image-like and flat inputs in, a change of the posterior out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.nn.blocks import ACTIVATIONS, conv, linear


class MapEncoder(nn.Module):
    """Convolutions, a pooling and an MLP: from the image-like inputs of each slot to a code.

    The inputs are concatenated: first those of each slot and iteration, then those of the image alone. The first
    convolution is linear, so its share of the latter is computed once (`constant`).

    Args:
        slot_channels: of the inputs of each slot.
        constant_channels: of the inputs of the image alone.
        channels: of the convolutions.
        kernel_size: of all convolutions.
        mlp: sizes of the layers behind the pooling.
        stride: of all convolutions.
        image_size: (H, W) replaces the average pool over the image by a flattening, and fixes the size.
        pool_size: of the average pool before the flattening.
        padding: "valid" pads nothing.
        activation: behind all layers, "elu" or "relu".

    Raises:
        InputError: nothing would be left of an image of that size.
    """

    def __init__(
        self,
        slot_channels: int,
        constant_channels: int,
        *,
        channels: Sequence[int],
        kernel_size: int,
        mlp: Sequence[int],
        stride: int = 2,
        image_size: Sequence[int] | None = None,
        pool_size: int = 1,
        padding: Literal["same", "valid"] = "same",
        activation: Literal["elu", "relu"] = "elu",
    ) -> None:
        super().__init__()
        self.split, self.pool_size = [slot_channels, constant_channels], pool_size
        self.activation = ACTIVATIONS[activation]
        widths = [slot_channels + constant_channels, *channels]
        self.convs = nn.ModuleList(
            conv(n_in, n_out, kernel_size, stride) for n_in, n_out in zip(widths[:-1], widths[1:], strict=True)
        )
        if padding == "valid":
            for layer in self.convs:
                layer.padding = (0, 0)
        self.image_size = image_size
        features = channels[-1] * (1 if image_size is None else self._num_places(image_size))
        widths, self.code_size = [features, *mlp], [features, *mlp][-1]
        self.mlp = nn.ModuleList(linear(n_in, n_out) for n_in, n_out in zip(widths[:-1], widths[1:], strict=True))

    def constant(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E h w"]:
        """What the first convolution makes of the inputs that no iteration changes, with its bias."""
        first = self.convs[0]
        if maps.shape[1] == 0:
            return first.bias[:, None, None].expand(len(maps), -1, 1, 1)
        return F.conv2d(maps, first.weight.split(self.split, 1)[1], first.bias, first.stride, first.padding)

    def encode(self, maps: Float[Tensor, "B K C H W"], constant: Float[Tensor, "B E h w"]) -> Float[Tensor, "N M"]:
        """One code for each slot, in float32 (or the dtype of the weights) whatever the convolutions run in."""
        x = self.activation(self._first(maps, constant))
        for layer in self.convs[1:]:
            x = self.activation(layer(x))
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.convs[0].weight.dtype)
            if self.pool_size > 1:
                x = F.avg_pool2d(x, self.pool_size)
            x = x.mean((2, 3)) if self.image_size is None else x.flatten(1)
            for layer in self.mlp:
                x = self.activation(layer(x))
        return x

    def _num_places(self, image_size: Sequence[int]) -> int:
        """How many are flattened."""
        height, width = image_size
        for layer in self.convs:
            kernel, pad, stride = layer.kernel_size[0], layer.padding[0], layer.stride[0]
            height, width = ((n + 2 * pad - kernel) // stride + 1 for n in (height, width))
        if min(height, width) < self.pool_size:
            raise InputError(
                f"image_size is {tuple(image_size)}, too small for {len(self.convs)} refinement convolutions; "
                "take fewer of them, or larger images"
            )
        return (height // self.pool_size) * (width // self.pool_size)

    def _first(self, maps: Tensor, constant: Tensor) -> Tensor:
        first = self.convs[0]
        maps = maps.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(maps, first.weight.split(self.split, 1)[0], None, first.stride, first.padding)
        return x + constant.repeat_interleave(len(x) // len(constant), 0)


class RefinementNetwork(MapEncoder):
    """A MapEncoder whose code, joined by the flat inputs, goes through an LSTM (or none) and a linear head.

    Args:
        slot_channels: as in MapEncoder, like all that is not listed here.
        constant_channels: likewise.
        vector_size: of the flat inputs.
        out_size: of the change.
        lstm_size: None leaves the LSTM out.
        maps: for the MapEncoder.
    """

    def __init__(
        self, slot_channels: int, constant_channels: int, vector_size: int, out_size: int, lstm_size: int | None, **maps
    ) -> None:
        super().__init__(slot_channels, constant_channels, **maps)
        size = self.code_size + vector_size
        self.lstm = nn.LSTMCell(size, lstm_size) if lstm_size else None
        self.head = linear(lstm_size or size, out_size)

    def forward(
        self,
        maps: Float[Tensor, "B K C H W"],
        constant: Float[Tensor, "B E h w"],
        vectors: Float[Tensor, "N V"],
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """The change (N, O), then the new state: (hidden, cell) of the LSTM; no state is given to start with."""
        x = self.encode(maps, constant)
        with torch.autocast(x.device.type, enabled=False):
            x = torch.cat([x, vectors], 1)
            if self.lstm is not None:
                state = self.lstm(x, state or None)
                x = state[0]
            return self.head(x), *state
