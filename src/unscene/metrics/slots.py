"""How much alike the slots of an image are: cosine similarities of their representations.

The measure "Sim" of Duplicate Latent Representation Suppression (Li et al., BMVC 2021), which leaves open whether
the sign counts: `slot_similarity` has all three readings.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from unscene.errors import InputError

OF_COSINE = {"signed": lambda cosine: cosine, "absolute": torch.abs, "squared": torch.square}


def slot_similarity(slots: Float[Tensor, "B K D"], kind: str = "signed") -> Float64[Tensor, " B"]:
    """Mean over the pairs of different slots of their cosine similarity S.

    ``kind`` is signed, absolute for |S| or squared for S^2. 0 for orthogonal slots, 1 for equal ones; NaN for a single
    slot. Slots may be posterior means or samples: noise alone gives isotropic Gaussian slots a mean S^2 of 1 / D.
    """
    if kind not in OF_COSINE:
        raise InputError(f"kind is {kind!r}; slot_similarity knows {', '.join(OF_COSINE)}")
    pairs = ~torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)
    return OF_COSINE[kind](cosine_similarities(slots))[:, pairs].mean(1)


def cosine_similarities(slots: Float[Tensor, "B K D"]) -> Float64[Tensor, "B K K"]:
    """<z_h, z_j> / (|z_h| |z_j|) of all pairs of slots; 0 for a slot that is zero."""
    unit = slots.double() / slots.double().norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return unit @ unit.mT
