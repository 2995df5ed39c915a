"""LDS, the prior against duplicates: slots of one image ought to have orthogonal latents.

Duplicate Latent Representation Suppression for Multi-object Variational Autoencoders (Li, Raza, Hu, Sun and Fisher,
BMVC 2021): log p({z_k}) gains the sum over ordered pairs of slots of log N(S_hj; 0, s^2), S the cosine similarity of
their latents. Only training knows of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor

from unscene.errors import InputError


@dataclass(frozen=True)
class LDS:
    """How much alike the slots of an image are, in nats. The defaults are the paper's.

    Where that is silent: latents are the samples that the likelihood is computed from (the posterior means of a model
    whose slots start alike are alike, and there the gradient is zero), a pair counts twice, and the sum over pairs is
    averaged over the batch, as the ELBO is.

    Args:
        weight: of the penalty beside an ELBO that is summed over pixels.
        scale: s, the standard deviation of a similarity.
        kernel: S is the cosine, or exp(-|z_h - z_j|^2 / 2).
        penalty: of a similarity: S^2 / (2 s^2); the same for positive ones only; or max(S - s, 0) / s.
        on: samples, or the means of the posterior.
        reduction: "sum" over the K (K - 1) ordered pairs of slots; "mean" needs a weight larger by that number.
        iterations: of an iterative model: "all", each with its weight in the ELBO, or the "last" one.
        presence: pairs count by how much of any pixel both slots own, so that empty slots may be alike.
        in_refinement: an iterative model's refinement sees the gradient of the penalty too. That is then part of the
            inference at test time, which the paper's prior is not.
    """

    weight: float = 1.0
    scale: float = 0.1
    kernel: Literal["cosine", "rbf"] = "cosine"
    penalty: Literal["gaussian", "half_gaussian", "hinge"] = "gaussian"
    on: Literal["samples", "means"] = "samples"
    reduction: Literal["sum", "mean"] = "sum"
    iterations: Literal["all", "last"] = "all"
    presence: bool = False
    in_refinement: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None, num_slots: int | None = None) -> LDS | None:
        """The prior that a model's option ``lds`` asks for, None for none.

        Raises InputError for what it does not know, and if ``num_slots`` is given and leaves nothing to compare.
        """
        if options is None:
            return None
        if num_slots == 1:
            raise InputError("lds compares slots, but num_slots is 1; give at least 2 slots, or leave lds out")
        known, hints = [field.name for field in fields(cls)], get_type_hints(cls)
        for name, value in options.items():
            if name not in known:
                raise InputError(f"lds has the option {name!r}; it knows {', '.join(known)}")
            if (choices := get_args(hints[name])) and value not in choices:
                raise InputError(f"lds.{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
        prior = cls(**options)
        if prior.weight < 0 or prior.scale <= 0:
            raise InputError(f"lds has weight {prior.weight} and scale {prior.scale}; give one >= 0 and one > 0")
        return prior

    def __call__(
        self, slots: Float[Tensor, "B K D"], masks: Float[Tensor, "B K H W"] | None = None
    ) -> Float[Tensor, " B"]:
        """The penalty of each image, before the weight; ``masks`` are needed, as constants, for ``presence``."""
        with torch.autocast(slots.device.type, enabled=False):
            return self.reduce(self.similarity(slots.to(torch.promote_types(slots.dtype, torch.float32))), masks)

    def mean(self, samples: Tensor, means: Tensor, masks: Tensor | None = None) -> Float[Tensor, ""]:
        """The penalty of a batch, of those of the two (B, K, D) that ``on`` names."""
        return self(samples if self.on == "samples" else means, masks).mean()

    def gradient(self, samples: Tensor, means: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Of each image's own penalty, times the weight, with respect to samples and means; for a refinement."""
        with torch.enable_grad():
            latents = samples.detach().requires_grad_(), means.detach().requires_grad_()
            penalty = self.weight * len(samples) * self.mean(*latents, masks)
            return torch.autograd.grad(penalty, latents, materialize_grads=True)

    def weight_at(self, iteration: int, last: int) -> float:
        """``weight``, or 0 in an iteration that does not count."""
        return self.weight if self.iterations == "all" or iteration == last else 0.0

    def similarity(self, slots: Float[Tensor, "B K D"]) -> Float[Tensor, "B K K"]:
        """S of all pairs, each slot with itself included."""
        if self.kernel == "rbf":
            return (-0.5 * (slots.unsqueeze(1) - slots.unsqueeze(2)).square().sum(3)).exp()
        unit = slots / slots.norm(dim=2, keepdim=True).clamp_min(1e-8)
        return unit @ unit.mT

    def reduce(self, similarity: Float[Tensor, "B K K"], masks: Tensor | None = None) -> Float[Tensor, " B"]:
        """The penalty of the similarities of all pairs of different slots."""
        weights = 1 - torch.eye(similarity.shape[1], device=similarity.device, dtype=similarity.dtype)
        if self.presence:
            presence = masks.detach().flatten(2).amax(2).to(similarity.dtype)
            weights = weights * presence.unsqueeze(1) * presence.unsqueeze(2)
        total = (weights * self._of_pairs(similarity)).sum((1, 2))
        return total if self.reduction == "sum" else total / weights.sum((-2, -1)).clamp_min(1e-8)

    def log_prob(self, penalty: Tensor, num_slots: int) -> Tensor:
        """log p({z_k}) of a "gaussian" penalty that is summed over pairs, with the constant that no gradient sees."""
        constant = math.log(self.scale) + 0.5 * math.log(2 * math.pi)
        return -penalty - num_slots * (num_slots - 1) * constant

    def _of_pairs(self, similarity: Tensor) -> Tensor:
        if self.penalty == "hinge":
            return (similarity - self.scale).clamp_min(0) / self.scale
        if self.penalty == "half_gaussian":
            similarity = similarity.clamp_min(0)
        return similarity.square() / (2 * self.scale**2)
