"""The greedy selection of sprites as a textbook would write it: every candidate composited with all other layers.

All images at once, with the products of all pairs of layers in memory, as the authors' scheme has them; the baseline
of bench_selection.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def plain_greedy(
    image: Tensor,
    masks: Tensor,
    colours: Tensor,
    occlusion: Tensor,
    background: Tensor | None,
    *,
    empty: bool,
    penalty: float,
    sweeps: int,
) -> tuple[Tensor, Tensor]:
    """As `unscene.nn.selection.greedy`."""
    B, L, K = masks.shape[:3]
    rows = torch.arange(B, device=image.device)
    if empty:
        masks, colours = F.pad(masks, (0, 0) * 2 + (0, 1)), F.pad(colours, (0, 0) * 3 + (0, 1))
    # Layer 0 is the background, with a mask of 1 and hidden by all; or black.
    behind = torch.zeros_like(image) if background is None else background
    a = torch.cat([torch.ones_like(masks[:, :1, 0]), torch.zeros_like(masks[:, :, 0])], 1)
    c = torch.cat([behind.unsqueeze(1), torch.zeros_like(colours[:, :, 0])], 1)
    delta = F.pad(F.pad(occlusion, (1, 0), value=1.0), (0, 0, 1, 0))
    choice = torch.full((B, L), K, device=image.device)
    count = torch.zeros(B, L, device=image.device)
    for _ in range(sweeps):
        for layer in range(L):
            costs = []
            for k in range(masks.shape[2]):
                a[:, layer + 1], c[:, layer + 1] = masks[:, layer, k], colours[:, layer, k]
                error = (image - plain_composite(a, c, delta)).square().flatten(1).mean(1)
                costs.append(error + (penalty if empty and k < K else 0.0))
            lowest, choice[:, layer] = torch.stack(costs, 1).min(1)
            a[:, layer + 1], c[:, layer + 1] = (
                masks[rows, layer, choice[:, layer]],
                colours[rows, layer, choice[:, layer]],
            )
            count[:, layer] = choice[:, layer] < K if empty else 0
    return choice, lowest + penalty * count[:, :-1].sum(1)


def plain_composite(a: Tensor, c: Tensor, delta: Tensor) -> Tensor:
    """Of masks (B, M, H, W), colours (B, M, C, H, W) and the occlusion matrix (B, M, M) with the background in it."""
    pairs = 1 - delta[..., None, None] * a.unsqueeze(2)  # (B, M, M, H, W)
    return ((pairs.prod(1) * a).unsqueeze(2) * c).sum(1)
