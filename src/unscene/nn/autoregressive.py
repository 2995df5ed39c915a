"""Latents of GENESIS and its heirs: normal distributions per slot, and a prior over slots one after another."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Normal(NamedTuple):
    """Independent normal distributions of the D numbers of a latent."""

    mean: Float[Tensor, "*batch D"]
    scale: Float[Tensor, "*batch D"]

    @classmethod
    def posterior(cls, parameters: Float[Tensor, "*batch P"]) -> Normal:
        """From what a network puts out, P = 2D: the scale is near 1 at the start."""
        mean, scale = parameters.chunk(2, -1)
        return cls(mean, F.softplus(scale + 0.5) + 1e-8)

    @classmethod
    def prior(cls, parameters: Float[Tensor, "*batch P"]) -> Normal:
        """Likewise for a learned prior: means within (-1, 1), scales within (0, 1), near 1 at the start."""
        mean, scale = parameters.chunk(2, -1)
        return cls(mean.tanh(), (scale + 4).sigmoid() + 1e-4)

    def at(self, noise: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """The sample that standard normal noise makes; without any it is the mean."""
        return self.mean + self.scale * noise

    def sample(self) -> Float[Tensor, "*batch D"]:
        return self.at(torch.randn_like(self.mean))

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """log density, summed over D."""
        log_probs = -0.5 * ((z - self.mean) / self.scale).square() - self.scale.log()
        return log_probs.sum(-1) - 0.5 * math.log(2 * math.pi) * z.shape[-1]


class Latent(NamedTuple):
    """What is known of one kind of latent of K slots."""

    posterior: Normal
    prior: Normal
    z: Float[Tensor, "B K D"]

    def kl(self) -> Float[Tensor, " B"]:
        """log q(z) - log p(z), the estimate of KL(q || p) by one sample; it can be negative."""
        return (self.posterior.log_prob(self.z) - self.prior.log_prob(self.z)).sum(1)


class AutoregressivePrior(nn.Module):
    """p(z_1) = N(0, I); p(z_k | z_1 .. z_k-1) is what an LSTM makes of those.

    Args:
        latent_size: D.
        hidden: width of the LSTM.
    """

    def __init__(self, latent_size: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(latent_size, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 2 * latent_size)

    def forward(self, z: Float[Tensor, "B K D"]) -> Normal:
        """The prior of every slot, given the slots before it."""
        first = Normal(torch.zeros_like(z[:, :1]), torch.ones_like(z[:, :1]))
        if z.shape[1] == 1:
            return first
        rest = Normal.prior(self.out(self.lstm(z[:, :-1])[0]))
        return Normal(*(torch.cat(both, 1) for both in zip(first, rest, strict=True)))

    def sample(self, num_images: int, num_slots: int) -> Float[Tensor, "B K D"]:
        """Latents of images that nobody has seen."""
        weight, state = self.out.weight, None
        z = [torch.randn(num_images, 1, self.lstm.input_size, device=weight.device, dtype=weight.dtype)]
        for _ in range(1, num_slots):
            hidden, state = self.lstm(z[-1], state)
            z.append(Normal.prior(self.out(hidden)).sample())
        return torch.cat(z, 1)
