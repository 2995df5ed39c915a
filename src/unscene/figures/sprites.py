"""Pictures of sprites: what they are, what they make of images, how edits change them, and who is in which cluster.

After the figures of DTI-Sprites (Monnier et al., ICCV 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, palette, to_rgb, to_rgba
from unscene.figures.grid import Tile, image_grid, on_checkerboard
from unscene.scenes import Decomposition

COLUMNS = 10  # sprites in a row of the gallery, so that rows are tens and columns are units
MEMBERS = 5  # of a cluster: so many of the best, and of the others
PAPER, BAR = np.array([240, 240, 240], dtype=np.uint8), palette(6)[5]  # of the bars that show usage
SHEET_CELL, SHEET_GAP = 48, 4  # smallest sprite on a sheet and the space between two, in pixels
SHEET_PAPER = 255  # its grey value


def sprite_gallery(
    sprites: Float[Tensor, "K C h w"],
    masks: Float[Tensor, "K 1 h w"] | None = None,
    usage: Float[Tensor, " K"] | None = None,
) -> Figure:
    """Sprites as opaque as their masks on a checkerboard, their colours, their masks and how often they are used.

    Ten in a row: sprite 13 is in the row "10 +" under "3". Bars of ``usage`` are as high as the cell for the most used
    sprite. Prototypes without masks are shown as they are.
    """
    colours = list(to_rgb(sprites))
    rows = {"sprite": colours}
    if masks is not None:
        rows = {"sprite": list(to_rgba(sprites, masks[:, 0])), "colours": colours, "mask": list(to_rgb(masks))}
    if usage is not None:
        rows["usage"] = _bars(usage, colours[0].shape[:2])
    titles, tiles = [], []
    for start in range(0, len(sprites), COLUMNS):
        titles += [f"{name} {start} +" if start and name == "sprite" else name for name in rows]
        tiles += [list(map(Tile, row[start : start + COLUMNS])) for row in rows.values()]
    units = [str(k) for k in range(min(len(sprites), COLUMNS))]
    return image_grid(tiles, column_titles=units, row_titles=titles)


def sprite_sheet(
    sprites: Float[Tensor, "K C h w"], masks: Float[Tensor, "K 1 h w"] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """All sprites in one picture, row by row on a checkerboard, small ones enlarged by a whole factor."""
    opaque = torch.ones_like(sprites[:, :1]) if masks is None else masks
    cells = to_rgba(sprites, opaque[:, 0])
    factor = ceil(SHEET_CELL / min(cells.shape[1:3]))
    cells = cells.repeat(factor, 1).repeat(factor, 2)
    (number, height, width), columns = cells.shape[:3], ceil(sqrt(len(cells)))
    sheet = np.full((ceil(number / columns), height + SHEET_GAP, columns, width + SHEET_GAP, 3), SHEET_PAPER, np.uint8)
    for k, cell in enumerate(cells):
        sheet[k // columns, :height, k % columns, :width] = on_checkerboard(cell)
    flat = sheet.reshape(sheet.shape[0] * sheet.shape[1], -1, 3)
    return np.pad(flat, ((SHEET_GAP, 0), (SHEET_GAP, 0), (0, 0)), constant_values=SHEET_PAPER)


def layers_panel(
    image: Float[Tensor, "B C H W"],
    decomposition: Decomposition,
    labels: Integer[Tensor, "B H W"] | None = None,
    *,
    titles: tuple[str, ...] = (),
) -> Figure:
    """One row per image: image, reconstruction, map of sprites, map of layers, background and every layer (Fig. 3).

    In the map of sprites each has its own colour; the map of layers and the frames share theirs. ``labels`` number
    the visible layer, 0 the background, by default the one with the largest mask. ``titles`` name the rows.
    """
    if decomposition.sprite_ids is None:
        raise InputError("this Decomposition has no sprites; draw decomposition_panel instead")
    labels = decomposition.segmentation if labels is None else labels.long()
    which = (decomposition.sprite_ids + 1).gather(1, labels.flatten(1)).view_as(labels)
    layers = to_rgba(decomposition.components, decomposition.masks)
    maps = zip(
        to_rgb(image), to_rgb(decomposition.reconstruction), colour_labels(which), colour_labels(labels), strict=True
    )
    frames = palette(layers.shape[1])
    rows = [[*map(Tile, first), *map(Tile, own, frames)] for first, own in zip(maps, layers, strict=True)]
    numbered = [f"layer {layer}" for layer in range(1, layers.shape[1])]
    names = ["image", "reconstruction", "sprites", "layers", "background", *numbered]
    return image_grid(rows, column_titles=names, row_titles=titles)


def manipulation_grid(
    image: Float[Tensor, "C H W"],
    reconstruction: Float[Tensor, "C H W"],
    variants: Mapping[str, Float[Tensor, "_ C H W"]],
) -> Figure:
    """An image and its reconstruction, then a row of edited ones for each kind of edit (Fig. 4)."""
    rows = [[Tile(to_rgb(image)), Tile(to_rgb(reconstruction))]]
    rows += [list(map(Tile, to_rgb(edited))) for edited in variants.values()]
    return image_grid(rows, column_titles=("image", "reconstruction"), row_titles=["", *variants])


def clusters_panel(
    prototypes: Float[Tensor, "K C h w"],
    image: Float[Tensor, "N C H W"],
    reconstruction: Float[Tensor, "N C H W"],
    cluster: Int[Tensor, " N"],
    masks: Float[Tensor, "K 1 h w"] | None = None,
) -> Figure:
    """Two rows per cluster: its prototype, 5 best and 5 other members; below, their mean and what is made of them.

    The best have the smallest squared errors, the others are drawn at random, the same every time. Images whose
    ``cluster`` is -1 are in none. Prototypes may be smaller than images if they have masks.
    """
    error = (image - reconstruction).square().mean((1, 2, 3))
    generator = torch.Generator().manual_seed(0)
    shown = to_rgb(prototypes) if masks is None else _centred(to_rgba(prototypes, masks[:, 0]), *image.shape[-2:])
    rows, titles = [], []
    for k, prototype in enumerate(shown):
        members = (cluster == k).nonzero()[:, 0].cpu()
        members = members[error[members].cpu().argsort(stable=True)]
        others = MEMBERS + torch.randperm(max(len(members) - MEMBERS, 0), generator=generator)[:MEMBERS]
        chosen = torch.cat([members[:MEMBERS], members[others]])
        mean = [Tile(to_rgb(image[members].mean(0)))] if len(members) else []
        rows.append([Tile(prototype), *map(Tile, to_rgb(image[chosen]))])
        rows.append([*mean, *map(Tile, to_rgb(reconstruction[chosen]))])
        titles += [f"sprite {k}", f"{len(members)} images" if len(members) != 1 else "1 image"]
    names = ["sprite, mean", *(f"best {i}" for i in range(1, MEMBERS + 1)), *["other"] * MEMBERS]
    return image_grid(rows, column_titles=names[: max(map(len, rows))], row_titles=titles)


def _centred(pictures: UInt8[np.ndarray, "K h w 4"], height: int, width: int) -> UInt8[np.ndarray, "K H W 4"]:
    """In the middle of something transparent of that size."""
    top, left = (height - pictures.shape[1]) // 2, (width - pictures.shape[2]) // 2
    bottom, right = height - pictures.shape[1] - top, width - pictures.shape[2] - left
    return np.pad(pictures, ((0, 0), (top, bottom), (left, right), (0, 0)))


def _bars(usage: Float[Tensor, " K"], size: tuple[int, int]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Pictures of one bar each."""
    heights = (usage / usage.max().clamp(min=1e-12) * size[0]).round().long().tolist()
    pictures = np.tile(PAPER, (len(heights), *size, 1))
    left, right = size[1] // 4, size[1] - size[1] // 4
    for picture, height in zip(pictures, heights, strict=True):
        picture[size[0] - height :, left:right] = BAR
    return list(pictures)
