"""Pictures of a scene from viewpoints that the model did not see, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from numpy import ndarray
from torch import Tensor

from unscene.figures.colours import colour_labels, palette, to_rgb, to_rgba
from unscene.figures.grid import Tile, image_grid
from unscene.scenes import Decomposition

DARKEST, BRIGHTEST = -6, -2  # decimal logarithm of the variance, as MulMON (Li et al. 2020) shows it


def log_variance(variance: Float[Tensor, "*batch H W"]) -> Float[Tensor, "*batch H W"]:
    """Its decimal logarithm, from -6."""
    return (variance + 10.0**DARKEST).log10()


def uncertainty_map(variance: Float[Tensor, "*batch H W"]) -> UInt8[ndarray, "*batch H W 3"]:
    """`log_variance` on a perceptually uniform scale, dark at -6 and bright from -2 on."""
    brightness = (log_variance(variance) - DARKEST) / (BRIGHTEST - DARKEST)
    return matplotlib.colormaps["viridis"](brightness.clamp(0, 1).float().cpu().numpy(), bytes=True)[..., :3]


def views_panel(
    decomposition: Decomposition,
    variance: Float[Tensor, "Q H W"],
    image: Float[Tensor, "Q C H W"] | None = None,
    *,
    titles: Sequence[str] = (),
) -> Figure:
    """One row per view: the real one, if known, what the model shows, segmentation, uncertainty, every slot.

    Slots are as opaque as their masks and framed in their colours. ``titles`` name the rows.
    """
    columns = {
        **({} if image is None else {"image": to_rgb(image)}),
        "shown": to_rgb(decomposition.reconstruction),
        "mask": colour_labels(decomposition.segmentation),
        "uncertainty": uncertainty_map(variance),
    }
    slots, colours = to_rgba(decomposition.components, decomposition.masks), palette(decomposition.masks.shape[-3])
    rows = [
        [*(Tile(pictures[q]) for pictures in columns.values()), *map(Tile, slots[q], colours)]
        for q in range(len(slots))
    ]
    names = [*columns, *(f"slot {k}" for k in range(len(colours)))]
    return image_grid(rows, column_titles=names, row_titles=titles)
