"""The encoder of one component, shared by MONet and GENESIS; its decoder is a BroadcastDecoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.nn.blocks import ACTIVATIONS


class ComponentEncoder(nn.Module):
    """Convolutions of 3 x 3 that halve the image, a hidden layer, and the parameters of a posterior.

    Args:
        in_channels: of the input.
        out_features: of the output, 2 D for mean and scale.
        image_size: (H, W), fixed by the hidden layer.
        channels: of the convolutions.
        hidden: width of the hidden layer.
        padding: of the convolutions; 0 in some re-implementations.
        activation: behind all but the last layer.

    Raises:
        InputError: nothing is left of the image after so many convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_features: int,
        image_size: Sequence[int],
        channels: Sequence[int] = (32, 32, 64, 64),
        hidden: int = 256,
        padding: int = 1,
        activation: Literal["elu", "relu"] = "relu",
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        height, width = image_size
        for _ in channels:
            height, width = ((n + 2 * padding - 3) // 2 + 1 for n in (height, width))
        if height < 1 or width < 1:
            raise InputError(
                f"image_size is {tuple(image_size)}; {len(channels)} convolutions with padding {padding} leave nothing "
                "of it; take larger images or fewer encoder_channels"
            )
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, 2, padding).to(memory_format=torch.channels_last)
            for n_in, n_out in zip([in_channels, *channels[:-1]], channels, strict=True)
        )
        self.hidden = nn.Linear(channels[-1] * height * width, hidden)
        self.out = nn.Linear(hidden, out_features)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N P"]:
        """The output in float32 (or the dtype of the weights), whatever the convolutions run in."""
        for layer in self.convs:
            x = self.activation(layer(x))
        with torch.autocast(x.device.type, enabled=False):
            return self.out(self.activation(self.hidden(x.flatten(1).to(self.out.weight.dtype))))
