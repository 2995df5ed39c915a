"""Scenes go into a model, a Decomposition comes out: the two types that every part of the library shares.

Shape alphabet: B batch, T frames, V views, K slots, N true objects, C channels, H, W, D latent.

A *Scenes* batch is a plain dict of tensors (one sample of a dataset is the same without B):

==============  =============================================================================
``image``       (B, C, H, W) float in [0, 1]; (B, T, C, H, W) video; (B, V, C, H, W) views
``mask``        (..., H, W) integer label map; 0 is background, ids are stable over frames
``factors``     {name: (B, N, ...)}; entry i describes the object with id i, 0 the background
``visibility``  (B, N) bool: is the object with id i visible?
``viewpoint``   (B, V, P)
``collision``   (B, T, H, W) bool: where objects collide; only from datasets that are asked for it
``camera``      (B, [T or V,] 4, 4) from the camera's axes (right, down, forward) to the world's; rendered data
``background``  (B, [T,] H, W) which part of the background a pixel shows; rooms only
==============  =============================================================================

Only ``image`` is always there. Labels are for evaluation; no training code may read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unscene.errors import InputError

Scenes = dict[str, Any]


@dataclass(frozen=True)
class Decomposition:
    """What a model says about a batch of images or videos.

    ``masks`` are non-negative and sum to 1 over K; ``components`` are the unmasked appearances of
    the slots; ``slots`` their representations. Everything else is optional.
    """

    masks: Float[Tensor, "*batch K H W"]
    components: Float[Tensor, "*batch K C H W"]
    slots: Float[Tensor, "*batch K D"]
    mask_logits: Float[Tensor, "*batch K H W"] | None = None
    slot_scale: Float[Tensor, "*batch K D"] | None = None  # posterior standard deviation
    layer_order: Tensor | None = None
    sprite_ids: Tensor | None = None
    history: tuple[Decomposition, ...] = ()  # one entry per iteration, the last equals self

    @property
    def masked_components(self) -> Float[Tensor, "*batch K C H W"]:
        """Each component times its mask; they sum to the reconstruction."""
        return self.masks.unsqueeze(-3) * self.components

    @property
    def reconstruction(self) -> Float[Tensor, "*batch C H W"]:
        """Mean of the mixture."""
        return self.masked_components.sum(-4)

    @property
    def segmentation(self) -> Int[Tensor, "*batch H W"]:
        """Label map: the slot with the largest mask, per pixel."""
        return self.masks.argmax(-3)


def check_image(
    image: Tensor,
    *,
    channels: int | None = None,
    size: Sequence[int] | None = None,
    axes: str = "B, C, H, W",
    name: str = "image",
) -> None:
    """Raise InputError unless ``image`` has these axes and (H, W) = ``size``, is float, finite and within [0, 1]."""
    if image.ndim != len(axes.split(",")) or not image.is_floating_point():
        raise InputError(
            f"{name} must be a float tensor ({axes}) in [0, 1], got {image.dtype} of shape {tuple(image.shape)}; "
            "divide uint8 images by 255, and add or take away axes"
        )
    if 0 in image.shape:
        raise InputError(f"{name} of shape {tuple(image.shape)} is empty; every axis needs at least one element")
    if channels is not None and image.shape[-3] != channels:
        raise InputError(
            f"{name} has {image.shape[-3]} channels but the model was built for {channels}; "
            "convert the image (RGB or grayscale) or build the model with image_channels to match"
        )
    if size is not None and tuple(image.shape[-2:]) != tuple(size):
        raise InputError(
            f"{name} is {tuple(image.shape[-2:])} but this model was built for image_size={tuple(size)}; "
            "resize the image, or build the model with image_size to match"
        )
    low, high = torch.aminmax(image.detach())  # NaN anywhere makes both NaN
    if not (low >= 0 and high <= 1):
        found = "NaN" if low.isnan() else f"values from {low.item():.4g} to {high.item():.4g}"
        raise InputError(f"{name} must lie within [0, 1], found {found}; scale it before calling the model")
