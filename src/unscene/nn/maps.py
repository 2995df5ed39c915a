"""Maps that models of prototypes begin with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def bump(size: Sequence[int], sigma: float) -> Float[Tensor, "h w"]:
    """A Gaussian of peak 1 in the middle of a map, ``sigma`` in pixels."""
    axes = [torch.exp(-((torch.arange(n) - (n - 1) / 2) ** 2) / (2 * sigma**2)) for n in size]
    return torch.outer(*axes)
