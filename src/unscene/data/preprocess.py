"""Image conversions that several datasets share: bytes to float, grayscale."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R Rec. 601 weights of R, G, B


def to_grayscale(image: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 1 H W"]:
    """Rec. 601 luma of RGB images; any leading axes (batch, frames, views) are kept."""
    weights = torch.tensor(LUMA, dtype=image.dtype, device=image.device)
    return torch.einsum("...chw,c->...hw", image, weights).unsqueeze(-3)
