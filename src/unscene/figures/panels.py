"""Pictures of a Decomposition: the panels of the IODINE paper's appendix.

Leading axes of images are rows, so frames of a video (B, T, C, H, W) are drawn one below the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from jaxtyping import Float, Integer
from matplotlib.figure import Figure
from torch import Tensor

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, palette, to_rgb, to_rgba
from unscene.figures.grid import Tile, image_grid
from unscene.scenes import Decomposition


def decomposition_panel(
    image: Float[Tensor, "*batch C H W"],
    decomposition: Decomposition,
    *,
    masked: bool = True,
    titles: Sequence[str] = (),
) -> Figure:
    """One row per image: image, reconstruction, segmentation, every slot framed in its colour (Figs. 16-18).

    Slots are as opaque as their masks; ``masked=False`` shows all they paint (Fig. 23). ``titles`` name the rows.
    """
    images = to_rgb(image).reshape(-1, *image.shape[-2:], 3)
    slots = _slot_rows(decomposition, masked)
    rows = [[Tile(pixels), *row] for pixels, row in zip(images, slots, strict=True)]
    return image_grid(rows, column_titles=["image", *_slot_titles(decomposition)], row_titles=titles)


def refinement_panel(decomposition: Decomposition) -> Figure:
    """One row per iteration of the first image's history: reconstruction, segmentation, masked slots."""
    if not decomposition.history:
        raise InputError("this Decomposition has no history; decompose with history=True, if the model refines at all")
    rows = [_slot_rows(step, masked=True)[0] for step in decomposition.history]
    titles = [f"{step} steps" if step != 1 else "1 step" for step in range(len(rows))]
    return image_grid(rows, column_titles=_slot_titles(decomposition), row_titles=titles)


def mask_logits_panel(
    image: Float[Tensor, "*batch C H W"],
    decomposition: Decomposition,
    mask: Integer[Tensor, "*batch H W"] | None = None,
) -> Figure:
    """Two rows per image: image and mask of every slot, then true mask and mask logits of every slot (Figs. 20-22).

    Brightness of the logits is comparable between the slots of an image, dark to light between their extremes.
    Without a true ``mask`` the model's segmentation is shown.
    """
    if decomposition.mask_logits is None:
        raise InputError("this Decomposition has no mask logits; draw decomposition_panel instead")
    truths = colour_labels(decomposition.segmentation if mask is None else mask)
    num_slots, height, width = decomposition.masks.shape[-3:]
    rows = []
    for pixels, masks, truth, logits in zip(
        to_rgb(image).reshape(-1, height, width, 3),
        decomposition.masks.reshape(-1, num_slots, height, width),
        truths.reshape(-1, height, width, 3),
        decomposition.mask_logits.reshape(-1, num_slots, height, width),
        strict=True,
    ):
        low, high = logits.aminmax()
        rows.append([Tile(pixels), *as_maps(masks)])
        rows.append([Tile(truth), *as_maps((logits - low) / (high - low).clamp(min=1e-6))])
    names = ["image", *(f"slot {k}" for k in range(num_slots))]
    return image_grid(rows, column_titles=names, row_titles=["masks", "logits"] * (len(rows) // 2))


def as_maps(maps: Float[Tensor, "K H W"]) -> list[Tile]:
    """Maps of values in [0, 1] on a perceptually uniform scale, framed in the slots' colours."""
    pixels = matplotlib.colormaps["viridis"](maps.detach().float().cpu().numpy(), bytes=True)[..., :3]
    return list(map(Tile, pixels, palette(len(pixels))))


def _slot_rows(decomposition: Decomposition, masked: bool) -> list[list[Tile]]:
    """For every image: reconstruction, segmentation and slots."""
    num_slots, channels, height, width = decomposition.components.shape[-4:]
    components = decomposition.components.reshape(-1, num_slots, channels, height, width)
    masks = decomposition.masks.reshape(-1, num_slots, height, width)
    slots = to_rgba(components, masks) if masked else to_rgb(components)
    reconstructions = to_rgb(decomposition.reconstruction).reshape(-1, height, width, 3)
    segmentations = colour_labels(decomposition.segmentation).reshape(-1, height, width, 3)
    return [
        [Tile(reconstruction), Tile(segmentation), *map(Tile, row, palette(num_slots))]
        for reconstruction, segmentation, row in zip(reconstructions, segmentations, slots, strict=True)
    ]


def _slot_titles(decomposition: Decomposition) -> list[str]:
    return ["reconstruction", "mask", *(f"slot {k}" for k in range(decomposition.masks.shape[-3]))]
