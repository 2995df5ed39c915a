"""Pictures of slots drawn one by one: what they would show alone, which show the same, and who claims what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, to_rgb
from unscene.figures.grid import Tile, image_grid
from unscene.figures.panels import as_maps
from unscene.metrics.duplicates import find_duplicates
from unscene.scenes import Decomposition

DUPLICATE = np.array([214, 39, 40], dtype=np.uint8)  # the frame of slots that show the same as another


def components_panel(
    image: Float[Tensor, "*batch C H W"], decomposition: Decomposition, *, titles: Sequence[str] = ()
) -> Figure:
    """One row per image: image, reconstruction, and every slot drawn alone, sigmoid(mask logit) times its colours.

    A red frame marks slots that show the same thing as another one, by `unscene.metrics.find_duplicates`.

    Source: Li et al., BMVC 2021, appendix B. Raises InputError if the Decomposition has no mask logits.
    """
    components, logits = _flat(decomposition)
    duplicates = find_duplicates(components, logits).pairs.any(2)
    alone = to_rgb(logits.sigmoid().unsqueeze(2) * components)
    height, width = image.shape[-2:]
    frames = [[DUPLICATE if twice else None for twice in row] for row in duplicates.tolist()]
    rows = [
        [Tile(pixels), Tile(whole), *map(Tile, slots, of_slots)]
        for pixels, whole, slots, of_slots in zip(
            to_rgb(image).reshape(-1, height, width, 3),
            to_rgb(decomposition.reconstruction).reshape(-1, height, width, 3),
            alone,
            frames,
            strict=True,
        )
    ]
    slots = [f"slot {k}" for k in range(logits.shape[1])]
    return image_grid(rows, column_titles=["image", "reconstruction", *slots], row_titles=titles)


def decoder_masks_panel(image: Float[Tensor, "*batch C H W"], decomposition: Decomposition) -> Figure:
    """Two rows per image: image and masks of every slot, then segmentation and masks by what the slots decode.

    For methods whose masks come from elsewhere than from the decoded logits, such as MONet's attention; for others both
    rows are the same. Raises InputError if the Decomposition has no mask logits.
    """
    _, logits = _flat(decomposition)
    masks, height, width = decomposition.masks.reshape(logits.shape), *image.shape[-2:]
    decoded = logits.softmax(1)
    rows = []
    for pixels, segmentation, of_image, of_decoder in zip(
        to_rgb(image).reshape(-1, height, width, 3),
        colour_labels(decoded.argmax(1)),
        masks,
        decoded,
        strict=True,
    ):
        rows += [[Tile(pixels), *as_maps(of_image)], [Tile(segmentation), *as_maps(of_decoder)]]
    names = ["image", *(f"slot {k}" for k in range(logits.shape[1]))]
    return image_grid(rows, column_titles=names, row_titles=["masks", "decoded"] * (len(rows) // 2))


def decodes_other_masks(decomposition: Decomposition) -> bool:
    """Whether the decoded mask logits say something else than the masks."""
    logits = decomposition.mask_logits
    return logits is not None and not torch.allclose(logits.softmax(-3), decomposition.masks, atol=1e-3)


def _flat(decomposition: Decomposition) -> tuple[Tensor, Tensor]:
    """Components (B, K, C, H, W) and mask logits (B, K, H, W)."""
    if decomposition.mask_logits is None:
        raise InputError("this Decomposition has no mask logits; draw decomposition_panel instead")
    components = decomposition.components
    return components.reshape(-1, *components.shape[-4:]), decomposition.mask_logits.reshape(
        -1, *decomposition.masks.shape[-3:]
    )
