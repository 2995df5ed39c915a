"""Layers that normalise what they compute: Xavier-uniform weights and zero bias, layer normalisation, activation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPSILON = 1e-12  # TensorFlow's, in layer normalisation


def xavier_init(layer: nn.Module) -> nn.Module:
    """Xavier-uniform weights, zero bias (the default of TensorFlow's layers)."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def normed_linear(n_in: int, n_out: int, activation: type[nn.Module]) -> nn.Sequential:
    """Activation(LayerNorm(linear)) of vectors (..., n_in)."""
    linear = xavier_init(nn.Linear(n_in, n_out))
    return nn.Sequential(linear, nn.LayerNorm(n_out, eps=EPSILON), activation())


def map_norm(channels: int) -> nn.GroupNorm:
    """LayerNorm of maps (N, C, H, W) over C, H, W with gain and bias per channel; a constant map becomes zero."""
    return nn.GroupNorm(1, channels, eps=EPSILON)


def halving_conv(n_in: int, n_out: int) -> nn.Conv2d:
    """4x4 convolution of stride 2 that halves an even H and W; channels last."""
    return xavier_init(nn.Conv2d(n_in, n_out, 4, stride=2, padding=1)).to(memory_format=torch.channels_last)


class DoublingConv(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 4x4 convolution with zeros 1 before and 2 behind.

    The four pixels that a pixel is copied to meet the same weights again, so both together are one transposed
    convolution of stride 2, whose 5x5 kernel is the 4x4 one summed over 2x2 boxes. This is exact, needs 25
    instead of 64 products per input pixel, and no upsampled maps in memory.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 4)
        xavier_init(self)

    def prepare(self) -> Float[Tensor, "I O 5 5"]:
        """The kernel of the transposed convolution, to be computed once for many calls."""
        boxes = F.avg_pool2d(self.weight.flip(2, 3), 2, stride=1, padding=1, divisor_override=1)
        return boxes.transpose(0, 1).contiguous(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "N I H W"], kernel: Float[Tensor, "I O 5 5"]) -> Float[Tensor, "N O 2*H 2*W"]:
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=2, output_padding=1)
