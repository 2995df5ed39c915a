"""Layers of objects over a background, with an occlusion matrix in place of an order (DTI-Sprites, ICCV 2021, Eq. 2).

L object layers with masks a and colours c, and occlusion[j, l] in [0, 1]: layer j hides layer l. Layer l is seen with
weight a_l prod_{j != l} (1 - occlusion[j, l] a_j). The paper prints j < l under the product; all other layers are
meant, or the matrix would not matter. The diagonal is zero, so every product below simply runs over all j. Binary
triangular matrices give the usual alpha blending; with soft ones the weights need not sum to 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unscene.errors import InputError


def occlusion_matrix(
    logits: Float[Tensor, "B P"] | None,
    batch: int,
    num_layers: int,
    hard: bool = False,
    device: torch.device | str | None = None,
) -> Float[Tensor, "B L L"]:
    """[b, j, l]: how much layer j hides layer l; 1 minus that how much l hides j; zero diagonal.

    Args:
        logits: of the P = L (L - 1) / 2 pairs (1, 0), (2, 0), (2, 1), ...; None: later layers hide earlier ones.
        batch: B.
        num_layers: L.
        hard: binary, see `binary_occlusion`.
        device: of the matrix if there are no logits.

    Raises:
        InputError: there are not as many logits as pairs of layers.
    """
    if logits is None:
        return torch.ones(num_layers, num_layers, device=device).tril(-1).expand(batch, -1, -1)
    if logits.shape != (batch, num_layers * (num_layers - 1) // 2):
        raise InputError(
            f"occlusion logits have shape {tuple(logits.shape)}; {num_layers} layers and a batch of {batch} need "
            f"({batch}, {num_layers * (num_layers - 1) // 2}), one per pair of layers"
        )
    occlusion = _from_lower_triangle(logits.sigmoid(), num_layers)
    return binary_occlusion(occlusion) if hard else occlusion


def binary_occlusion(occlusion: Float[Tensor, "B L L"]) -> Float[Tensor, "B L L"]:
    """1 where a later layer hides an earlier one by more than 0.5, and the opposite above the diagonal.

    Of two layers exactly one hides the other, even at 0.5, but three may hide one another in a circle.
    """
    num_layers = occlusion.shape[1]
    rows, columns = torch.tril_indices(num_layers, num_layers, -1, device=occlusion.device)
    return _from_lower_triangle((occlusion[:, rows, columns] > 0.5).to(occlusion.dtype), num_layers)


def _from_lower_triangle(values: Tensor, num_layers: int) -> Tensor:
    rows, columns = torch.tril_indices(num_layers, num_layers, -1, device=values.device)
    occlusion = values.new_zeros(len(values), num_layers, num_layers)
    occlusion[:, rows, columns] = values
    occlusion[:, columns, rows] = 1 - values
    return occlusion


def visibility(masks: Float[Tensor, "B L H W"], occlusion: Float[Tensor, "B L L"]) -> Float[Tensor, "B M H W"]:
    """How much of each pixel shows the background (index 0) and each layer (1 to L); M = L + 1.

    Products only, so masks of exactly 1 are safe in values and gradients.
    """
    weights = torch.cat([torch.ones_like(masks[:, :1]), masks], 1)
    hides = torch.cat([torch.ones_like(occlusion[..., :1]), occlusion], 2)  # every layer hides the background
    for row, mask in zip(hides.unbind(1), masks.unbind(1), strict=True):
        weights = weights * (1 - row[..., None, None] * mask.unsqueeze(1))
    return weights


def composite(
    masks: Float[Tensor, "B L H W"],
    colours: Float[Tensor, "B L C H W"],
    occlusion: Float[Tensor, "B L L"],
    background: Float[Tensor, "B C H W"] | None = None,
) -> Float[Tensor, "B C H W"]:
    """The image that the layers make; no background is a black one."""
    weights = visibility(masks, occlusion)
    image = (weights[:, 1:].unsqueeze(2) * colours).sum(1)
    return image if background is None else image + weights[:, :1] * background


def visible_layers(
    masks: Float[Tensor, "B L H W"],
    occlusion: Float[Tensor, "B L L"],
    threshold: float = 0.5,
    resolve_cycles: bool = False,
) -> Int[Tensor, "B H W"]:
    """Label map: 0 background, l the l-th layer, from masks above ``threshold`` and the binary occlusion.

    Where layers hide one another in a circle none is left, and the pixel counts as background, as in the authors'
    evaluation. With ``resolve_cycles`` it goes to the present layer that is most visible before anything is made
    binary.
    """
    present = masks > threshold
    weights = visibility(present.to(masks.dtype), binary_occlusion(occlusion))
    labels = weights.argmax(1)  # all zero in a circle: the first, which is the background
    if not resolve_cycles:
        return labels
    soft = visibility(masks, occlusion)[:, 1:].masked_fill(~present, -torch.inf)
    return torch.where(weights.sum(1) == 0, soft.argmax(1) + 1, labels)
