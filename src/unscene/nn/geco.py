"""GECO: a weight between reconstruction and KL that keeps the reconstruction error at a goal (Rezende & Viola 2018).

GENESIS weighs the KL, EfficientMORL the error, so their weights move in opposite directions. Both are buffers, and
only training moves them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.99  # of the moving averages


class KLWeight(nn.Module):
    """GENESIS's: error + beta KL, with beta rising while the error is below its goal, ten times as fast as it falls.

    Args:
        goal: the error to keep, in nats per image.
        rate: of log beta, per nat and step.
        smallest: of beta.
        largest: of beta.
    """

    def __init__(self, goal: float, rate: float, smallest: float = 1e-10, largest: float = 1e10) -> None:
        super().__init__()
        self.goal, self.rate, self.smallest, self.largest = goal, rate, smallest, largest
        self.register_buffer("beta", torch.tensor(1.0))
        self.register_buffer("error", torch.tensor(torch.nan))  # its moving average

    @classmethod
    def of_images(cls, shape: Sequence[int], goal: float, rate: float, *bounds: float) -> KLWeight:
        """For images (C, H, W) = ``shape``, with the goal per value and the rate for 64 x 64 pixels."""
        channels, height, width = shape
        return cls(goal * channels * height * width, rate * 64**2 / (height * width), *bounds)

    def forward(self, error: Tensor, kl: Tensor) -> Tensor:
        """The loss from two scalars, the means over the batch."""
        loss = error + self.beta * kl
        if self.training:
            self._update(error.detach())
        return loss

    def _update(self, error: Tensor) -> None:
        self.error = torch.where(self.error.isnan(), error, torch.lerp(error, self.error, MOMENTUM)).to(self.error)
        below = self.goal - self.error
        factor = (self.rate * below * torch.where(below > 0, 10.0, 1.0)).exp()
        self.beta = (self.beta * factor).clamp(self.smallest, self.largest)


class ErrorWeight(nn.Module):
    """EfficientMORL's: KL + w (error - goal), with w = softplus(zeta) rising while the error is above its goal.

    The value of the difference is its moving average, its gradient that of the batch. For the first ``warmup`` steps
    the loss is error + KL.

    Args:
        goal: the error to keep, in nats per image.
        rate: of zeta, per nat and step.
        smallest: of zeta; at 0.55 w is 1.
        warmup: steps.
    """

    def __init__(self, goal: float, rate: float = 1e-6, smallest: float = 0.55, warmup: int = 1000) -> None:
        super().__init__()
        self.goal, self.rate, self.smallest, self.warmup = goal, rate, smallest, warmup
        self.register_buffer("zeta", torch.tensor(float(smallest)))
        self.register_buffer("excess", torch.tensor(torch.nan))  # moving average of error - goal

    def forward(self, error: Tensor, kl: Tensor, step: int) -> Tensor:
        """The loss from two scalars, the means over the batch, at optimisation step ``step``."""
        if step < self.warmup:
            return error + kl
        excess = error - self.goal
        average = torch.where(self.excess.isnan(), excess, torch.lerp(excess, self.excess, MOMENTUM)).detach()
        loss = kl + F.softplus(self.zeta) * (excess + (average - excess.detach()))
        if self.training:
            self.excess = average.to(self.excess)
            self.zeta = (self.zeta + self.rate * self.excess).clamp_min(self.smallest)
        return loss
