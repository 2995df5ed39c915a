"""The networks that predict parameters of transformations from features of an image, many side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

HIDDEN = 128


class Predictors(nn.Module):
    """MLPs with two hidden layers of 128, one for each index of ``stack``, that see the same features.

    ``weights`` (*stack, in, out) and ``biases`` (*stack, out) of the three layers hold all of them: the networks of one
    sprite are a slice of each, and one whose result is not used has a gradient of zero rather than none. Layers start
    as torch's linear ones do, each by its own draw, but the last at zero, where most transformations change nothing.
    They run in float32 (or the dtype of the weights) even where autocast is on: predicted places would be wrong by
    pixels in half precision.

    Args:
        in_size: D of the features.
        out_size: P, the parameters that each network predicts.
        stack: how many networks along each axis, such as (L, K); none for a single one.
    """

    def __init__(self, in_size: int, out_size: int, stack: Sequence[int] = ()) -> None:
        super().__init__()
        self.stack = tuple(stack)
        sizes = list(zip([in_size, HIDDEN, HIDDEN], [HIDDEN, HIDDEN, out_size], strict=True))
        self.weights = nn.ParameterList(torch.zeros(*self.stack, n_in, n_out) for n_in, n_out in sizes)
        self.biases = nn.ParameterList(torch.zeros(*self.stack, n_out) for _, n_out in sizes)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            bound = 1 / math.sqrt(weight.shape[-2])
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B *stack P"]:
        networks = math.prod(self.stack)
        x = features.to(self.weights[0].dtype).expand(networks, -1, -1)  # not copied
        with torch.autocast(features.device.type, enabled=False):
            for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                bias, weight = bias.reshape(networks, 1, -1), weight.reshape(networks, *weight.shape[-2:])
                x = torch.baddbmm(bias, x.relu() if i else x, weight)
        return x.movedim(0, 1).unflatten(1, self.stack) if self.stack else x[0]
