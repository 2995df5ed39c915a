"""A grid of small pictures as one figure, exact to the pixel: the canvas on which all panels are drawn.

All lengths are pixels of the saved figure at its own resolution (100 dpi); saved at 200 dpi every one doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

DPI = 100
INK = "#767676"  # readable on white and on dark pages, since reports save figures without a background
CELL, GAP, FRAME, LINE = 96, 8, 3, 18  # smallest cell, space between cells, frame in a slot's colour, line of text
LETTER = 6.8  # generous width at the font size below
FONT_SIZE = 8


class Tile(NamedTuple):
    """One picture, (H, W, 3) or with opacity (H, W, 4) uint8, in a frame of the given colour (3,), if any."""

    pixels: np.ndarray
    frame: np.ndarray | None = None


def image_grid(
    rows: Sequence[Sequence[Tile]],
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Draw tiles of equal size on a grid; rows may differ in length."""
    cells = [[_render(tile) for tile in row] for row in rows]
    height, width = cells[0][0].shape[:2]
    left = GAP + (_text_width(row_titles) + GAP if row_titles else 0)
    top = GAP + LINE * (bool(title) + bool(column_titles))
    x = left + np.arange(max(map(len, cells))) * (max(width, CELL) + GAP) + max(CELL - width, 0) // 2
    y = top + np.arange(len(cells)) * (height + GAP)
    canvas_width = max(left + len(x) * (max(width, CELL) + GAP), _text_width([title]) + 2 * GAP)

    canvas = np.zeros((y[-1] + height + GAP, canvas_width, 4), dtype=np.uint8)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            canvas[y[i] : y[i] + height, x[j] : x[j] + width] = cell

    figure = _show(canvas)
    if title:
        _write(figure, float(GAP), GAP + LINE / 2, title, ha="left")
    for j, text in enumerate(column_titles):
        _write(figure, float(x[j] + width / 2), top - LINE / 2, text, ha="center")
    for i, text in enumerate(row_titles):
        _write(figure, float(left - GAP), float(y[i] + height / 2), text, ha="right")
    return figure


def _text_width(texts: Sequence[str]) -> int:
    return round(LETTER * max(map(len, texts)))


def _show(canvas: np.ndarray) -> Figure:
    """A figure that shows the canvas one to one."""
    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    return figure


def _write(figure: Figure, x: float, y: float, text: str, ha: str) -> None:
    """Write text around a position in pixels from the top left corner."""
    width, height = figure.get_size_inches() * DPI
    figure.text(x / width, 1 - y / height, text, ha=ha, va="center", fontsize=FONT_SIZE, color=INK)


def _render(tile: Tile) -> np.ndarray:
    """Pixels to display (H', W', 4): resized by a whole factor, on a checkerboard where transparent, framed."""
    pixels = _resize(tile.pixels)
    if pixels.shape[-1] == 4:
        pixels = on_checkerboard(pixels)
    cell = np.zeros((pixels.shape[0] + 2 * FRAME, pixels.shape[1] + 2 * FRAME, 4), dtype=np.uint8)
    if tile.frame is not None:
        cell[..., :3], cell[..., 3] = tile.frame, 255
    cell[FRAME:-FRAME, FRAME:-FRAME, :3] = pixels
    cell[FRAME:-FRAME, FRAME:-FRAME, 3] = 255
    return cell


def _resize(pixels: np.ndarray) -> np.ndarray:
    """Bring the height to one or two cells: enlarge by repeating pixels, shrink by averaging blocks."""
    enlarge, shrink = -(-CELL // pixels.shape[0]), pixels.shape[0] // (2 * CELL)
    if shrink > 1:
        height, width = (length // shrink for length in pixels.shape[:2])
        blocks = pixels[: height * shrink, : width * shrink].reshape(height, shrink, width, shrink, -1)
        return blocks.mean((1, 3)).round().astype(np.uint8)
    return pixels.repeat(enlarge, axis=0).repeat(enlarge, axis=1)


def on_checkerboard(pixels: np.ndarray, square: int = 6) -> np.ndarray:
    """Composite (H, W, 4) over the light checkerboard by which picture editors show transparency."""
    y, x = np.indices(pixels.shape[:2]) // square
    board = np.where((x + y) % 2, 255, 232)[..., None]
    opacity = pixels[..., 3:] / 255
    return (opacity * pixels[..., :3] + (1 - opacity) * board).round().astype(np.uint8)
