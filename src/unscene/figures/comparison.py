"""What several methods make of the same images, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Integer
from matplotlib.figure import Figure
from torch import Tensor

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, to_rgb
from unscene.figures.grid import Tile, image_grid
from unscene.scenes import Decomposition


def comparison_panel(
    image: Float[Tensor, "B C H W"],
    decompositions: Mapping[str, Decomposition],
    mask: Integer[Tensor, "B H W"] | None = None,
) -> Figure:
    """Two rows per image: the image and each method's reconstruction; the true mask and each method's segmentation.

    A slot has the colour of the object with which it shares most pixels, one slot for each object; the others have
    colours of their own. Without a true ``mask`` that place is left out, and colours follow the first method.
    """
    if not decompositions:
        raise InputError("there is no decomposition to compare; give at least one")
    found = list(decompositions.values())
    like = found[0].segmentation if mask is None else mask
    pictures = [to_rgb(image), *(to_rgb(d.reconstruction) for d in found)]
    truth = to_rgb(image) if mask is None else colour_labels(mask)
    maps = [truth, *(colour_labels(as_in(like, d.segmentation)) for d in found)]
    rows = [[Tile(column[i]) for column in kind] for i in range(len(image)) for kind in (pictures, maps)]
    return image_grid(rows, column_titles=["data", *decompositions])


def as_in(true: Integer[Tensor, "B H W"], segmentation: Integer[Tensor, "B H W"]) -> Integer[Tensor, "B H W"]:
    """Label maps with the numbers of the objects of ``true`` that they share most pixels with, one to one.

    Labels that are left over get numbers that no object has, in their order.
    """
    num_objects = int(true.long().max()) + 1
    return torch.stack([_renumber(*pair, num_objects) for pair in zip(true.long(), segmentation.long(), strict=True)])


def _renumber(true: Tensor, labels: Tensor, num_objects: int) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # here, because importing it takes longer than the rest

    num_labels = int(labels.max()) + 1
    shared = torch.bincount((true * num_labels + labels).flatten(), minlength=num_objects * num_labels)
    shared = shared.view(num_objects, num_labels).cpu().numpy()
    objects, found = linear_sum_assignment(shared, maximize=True)
    number = {label: n for n, label in zip(objects, found, strict=True) if shared[n, label]}
    spare = iter(range(num_objects, num_objects + num_labels))
    return labels.new_tensor([number[k] if k in number else next(spare) for k in range(num_labels)])[labels]
