"""How K images and masks explain one image: spatial mixtures, with gradients in closed form.

A pixel is explained jointly in all channels: log p(x_i) = log sum_k m_ik prod_c N(x_ic; mu_ikc, scale); or, where a
method wants it so, each channel by a mixture of its own with the same masks; or by the mean of the mixture alone.
`log_likelihood` has all three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """N(x; mean, scale^2); the IODINE paper uses scale = 0.1. A tensor gives slots scales of their own."""

    scale: float | Tensor = 0.1
    normalised: bool = True  # else without the constant, so that the largest value is 0

    def log_prob(self, image: Tensor, mean: Tensor) -> Tensor:
        """log N(x; mean), elementwise."""
        log = torch.log if isinstance(self.scale, Tensor) else math.log
        constant = log(self.scale * math.sqrt(2 * math.pi)) if self.normalised else 0.0
        return (image - mean).square() * (-0.5 / self.scale**2) - constant

    def score(self, image: Tensor, mean: Tensor) -> Tensor:
        """d log_prob / d mean, elementwise."""
        return (image - mean) * (1 / self.scale**2)


@dataclass(frozen=True)
class Logistic:
    """Logistic density with the given scale; IODINE's reference code uses scale = 0.03."""

    scale: float = 0.03

    def log_prob(self, image: Tensor, mean: Tensor) -> Tensor:
        distance = (image - mean) / self.scale
        return -distance - 2 * F.softplus(-distance) - math.log(self.scale)

    def score(self, image: Tensor, mean: Tensor) -> Tensor:
        return torch.tanh((image - mean) / (2 * self.scale)) / self.scale


Likelihood = Gaussian | Logistic
LIKELIHOODS = {"gaussian": Gaussian, "logistic": Logistic}
Event = Literal["pixel", "channel", "mean"]


@dataclass(frozen=True)
class SpatialMixture:
    """An image explained by K components. Gradients flow through the first three fields, the rest are constants.

    J is the number of mixtures per pixel: 1, or C where each channel has its own.
    """

    log_prob: Float[Tensor, "B 1 H W"]
    masks: Float[Tensor, "B K H W"]
    mask_posterior: Float[Tensor, "B K H W"]  # N_k / sum_j N_j: from the likelihoods alone
    responsibilities: Float[Tensor, "B K J H W"]  # m_k N_k / sum_j m_j N_j
    score: Float[Tensor, "B K C H W"]  # d log N_k / d mu_k
    log_masks: Float[Tensor, "B K H W"]
    log_joint: Float[Tensor, "B K J H W"]  # log m_k N_k

    @cached_property  # an input of the refinement and the start of the VJP
    def means_gradient(self) -> Float[Tensor, "B K C H W"]:
        """d(-log p) / d mu."""
        return -self.responsibilities * self.score

    @cached_property  # an input of the refinement and the start of the VJP
    def mask_gradient(self) -> Float[Tensor, "B K H W"]:
        """d(-log p) / d(mask logits)."""
        return (self.masks.detach().unsqueeze(2) - self.responsibilities).sum(2)

    @property
    def leave_one_out(self) -> Float[Tensor, "B K H W"]:
        """log p(x_i) - log p(x_i without slot k), masks renormalised over the other slots; 0 if K = 1. Needs J = 1."""
        if self.log_masks.shape[1] == 1:
            return torch.zeros_like(self.log_masks)
        without = logsumexp_others(self.log_joint.squeeze(2)) - logsumexp_others(self.log_masks)
        return self.log_prob.detach() - without


def spatial_mixture(
    likelihood: Likelihood,
    image: Float[Tensor, "B C H W"],
    means: Float[Tensor, "B K C H W"],
    mask_logits: Float[Tensor, "B K H W"],
    per_channel: bool = False,
) -> SpatialMixture:
    """Explain images by components ``means`` with masks softmax(``mask_logits``) over K."""
    return SpatialMixture(*_SpatialMixture.apply(likelihood, image.unsqueeze(1), means, mask_logits, per_channel))


def log_likelihood(
    likelihood: Likelihood,
    image: Float[Tensor, "B C H W"],
    means: Float[Tensor, "B K C H W"],
    log_masks: Float[Tensor, "B K H W"],
    event: Event = "pixel",
) -> Float[Tensor, " B"]:
    """log p(x | z) of each image in nats, summed over pixels and channels.

    ``event`` is what one draw of a slot explains: a "pixel" in all channels, or a "channel" of it; "mean" draws none,
    and the likelihood is that of the reconstruction sum_k m_k mu_k. They agree where one mask is 1.
    """
    if event == "mean":
        reconstruction = (log_masks.exp().unsqueeze(2) * means).sum(1)
        return likelihood.log_prob(image, reconstruction).flatten(1).sum(1)
    return spatial_mixture(likelihood, image, means, log_masks, event == "channel").log_prob.flatten(1).sum(1)


class _SpatialMixture(torch.autograd.Function):
    """Values and first derivatives with a handful of image-sized operations; no second derivatives."""

    @staticmethod
    def forward(ctx, likelihood, image, means, mask_logits, per_channel):
        log_masks = mask_logits.log_softmax(1)
        log_likelihoods = likelihood.log_prob(image, means)
        of_pixels = log_likelihoods.sum(2, keepdim=True)
        log_joint = log_masks.unsqueeze(2) + (log_likelihoods if per_channel else of_pixels)
        log_probs = log_joint.logsumexp(1, keepdim=True)
        responsibilities = (log_joint - log_probs).exp_()
        masks, mask_posterior = log_masks.exp(), of_pixels.squeeze(2).softmax(1)
        log_prob, score = log_probs.sum(2), likelihood.score(image, means)
        ctx.save_for_backward(masks, mask_posterior, responsibilities, score)
        ctx.mark_non_differentiable(responsibilities, score, log_masks, log_joint)
        ctx.set_materialize_grads(True)
        return log_prob, masks, mask_posterior, responsibilities, score, log_masks, log_joint

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_log_prob, d_masks, d_mask_posterior, *_):
        masks, mask_posterior, responsibilities, score = ctx.saved_tensors
        d_joint = responsibilities * d_log_prob.unsqueeze(2)
        d_log_likelihoods = d_joint + _softmax_backward(d_mask_posterior, mask_posterior).unsqueeze(2)
        d_logits = d_joint.sum(2) - masks * (d_log_prob * d_joint.shape[2]) + _softmax_backward(d_masks, masks)
        return None, None, d_log_likelihoods * score, d_logits, None


def _softmax_backward(gradient: Tensor, output: Tensor) -> Tensor:
    weighted = gradient * output
    return weighted - output * weighted.sum(1, keepdim=True)


def logsumexp_others(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
    """log sum_{j != k} exp(logits_j) over axis 1, K > 1.

    The sum of all minus the own term cancels nothing where another slot holds the largest term; for the slot
    that holds it, the others are summed anew.
    """
    top, best = logits.max(1, keepdim=True)
    terms = (logits - top).exp_()
    others = (terms.sum(1, keepdim=True) - terms).log_().add_(top)
    rest = logits.scatter(1, best, -math.inf).logsumexp(1, keepdim=True)
    return others.scatter_(1, best, rest)


def gaussian_kl(mean: Tensor, variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)), elementwise."""
    return 0.5 * (mean.square() + variance - 1 - variance.log())


def categorical_kl(log_p: Float[Tensor, "B K H W"], log_q: Float[Tensor, "B K H W"]) -> Float[Tensor, " B"]:
    """KL(p || q) of masks, given as logarithms, summed over pixels."""
    return (log_p.exp() * (log_p - log_q)).flatten(1).sum(1)
