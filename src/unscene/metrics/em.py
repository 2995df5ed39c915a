"""What R-NEM and N-EM report of themselves: losses of slots that each predict a binary image, and confidence.

``means`` (B, K, C, H, W) in [0, 1] are the slots' predictions of ``image`` (B, C, H, W), ``gamma`` (B, K, H, W) their
responsibilities, the shares of each pixel. Losses are in nats, sums over pixels and slots.

Source: the code of Relational N-EM (van Steenkiste et al., 2018).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from unscene.errors import InputError

CLIP = 1e-6  # means count as within [CLIP, 1 - CLIP]


class EMLosses(NamedTuple):
    """``intra`` (B,) inside of each slot's share of the image, ``inter`` (B,) outside of it."""

    intra: Float64[Tensor, "B"]
    inter: Float64[Tensor, "B"]

    def total(self, inter_weight: float = 1.0) -> Float64[Tensor, "B"]:
        """``intra`` + ``inter_weight`` ``inter``."""
        return self.intra + inter_weight * self.inter


def em_losses(
    image: Float[Tensor, "B C H W"],
    means: Float[Tensor, "B K ..."],
    gamma: Float[Tensor, "B K H W"],
    where: Bool[Tensor, "B H W"] | None = None,
) -> EMLosses:
    """Cross entropy of each slot with the image in its share, and KL from black, Bernoulli(0), to it elsewhere.

    With ``where`` only of those pixels: R-NEM's relational loss is that of the pixels near a collision.
    Raises InputError unless ``means`` predict this image.
    """
    _check(image, means)
    cross_entropy, to_black = _pixel_losses(image, means)
    gamma = gamma.double().unsqueeze(2)
    return EMLosses(_total(gamma * cross_entropy, where), _total((1 - gamma) * to_black, where))


def em_upper_bound(image: Float[Tensor, "B C H W"], means: Float[Tensor, "B K ..."]) -> EMLosses:
    """Both losses of all pixels for a single slot, whose means are the largest of all slots': no E-step is needed."""
    _check(image, means)
    return EMLosses(*(_total(loss, None) for loss in _pixel_losses(image, means.amax(1, keepdim=True))))


def confidence(masks: Float[Tensor, "B K H W"], true: Shaped[Tensor, "B H W"]) -> Float64[Tensor, "B"]:
    """The largest mask of a pixel, mean over the pixels whose true id is not 0; NaN if there are none."""
    foreground = true != 0
    return (masks.double().amax(1) * foreground).sum((1, 2)) / foreground.sum((1, 2))


def _check(image: Tensor, means: Tensor) -> None:
    if means.ndim != 5 or means.shape[:1] + means.shape[2:] != image.shape:
        raise InputError(
            f"means {tuple(means.shape)} do not predict image {tuple(image.shape)}; they must be (B, K, C, H, W) for "
            "an image (B, C, H, W)"
        )


def _pixel_losses(image: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy, and KL from black, of every slot and pixel (B, K, C, H, W)."""
    means, image = means.double().clamp(CLIP, 1 - CLIP), image.double().unsqueeze(1)
    to_black = -torch.log1p(-means)
    return to_black * (1 - image) - means.log() * image, to_black


def _total(loss: Tensor, where: Tensor | None) -> Float64[Tensor, "B"]:
    return (loss if where is None else loss * where[:, None, None]).flatten(1).sum(1)
