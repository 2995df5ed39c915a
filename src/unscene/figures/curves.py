"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unscene.errors import InputError
from unscene.figures.colours import palette
from unscene.figures.grid import INK

SCORES = {"fg_ari", "ari", "miou", "miou_fg", "covering"}  # quantities that live in [0, 1]
COLUMNS = 3
SMOOTH_ABOVE = 100  # points; noisier curves get a running mean over a fiftieth of their length


def loss_curves(table: Mapping[str, Float[np.ndarray, " rows"]]) -> Figure:
    """One small plot per quantity against ``step``; the splits of a quantity (train/mse, val/mse) share a plot.

    ``table`` maps column names to equally long columns, NaN where a row has no value.
    """
    if "step" not in table:
        raise InputError("the metrics table has no column 'step'; there is nothing to plot against")
    plots = _group(name for name in table if np.isfinite(table[name]).any())
    if not plots:
        raise InputError("the metrics table has no values yet; train for some steps first")
    num_rows = -(-len(plots) // COLUMNS)
    figure = Figure(figsize=(9, 2.1 * num_rows), dpi=100, layout="constrained")
    grid = figure.subplots(num_rows, COLUMNS, squeeze=False).flatten()
    for axes, (quantity, columns) in zip(grid, plots.items(), strict=False):
        colours = palette(5 + len(columns))[5:] / 255  # from blue on: those before are too pale for lines
        for column, colour in zip(columns, colours, strict=True):
            _draw(axes, table["step"], table[column], column.rpartition("/")[0] or "train", colour)
        style_axes(axes, quantity, legend=len(columns) > 1)
    for axes in grid[len(plots) :]:
        axes.set_axis_off()
    return figure


def _group(names) -> dict[str, list[str]]:
    """Columns by quantity, the part of the name after the last slash; first the loss, then the scores."""
    plots: dict[str, list[str]] = {}
    for name in names:
        if name not in ("step", "epoch"):
            plots.setdefault(name.rpartition("/")[2], []).append(name)
    return dict(sorted(plots.items(), key=lambda item: (item[0] != "loss", item[0] not in SCORES)))


def _draw(axes: Axes, step: np.ndarray, values: np.ndarray, label: str, colour: np.ndarray) -> None:
    known = np.isfinite(values)
    step, values = step[known], values[known]
    if len(values) > SMOOTH_ABOVE:
        axes.plot(step, values, color=colour, alpha=0.25, linewidth=0.8)
        window = np.ones(len(values) // 50)
        values = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    axes.plot(step, values, color=colour, linewidth=1.5, label=label, marker="." if len(values) < 20 else None)


def style_axes(axes: Axes, quantity: str, legend: bool) -> None:
    axes.set_title(quantity.replace("_", " "), fontsize=9, color=INK, loc="left")
    axes.tick_params(labelsize=7, colors=INK, length=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.patch.set_alpha(0)
    axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.5)
    axes.ticklabel_format(scilimits=(-3, 5), useOffset=False)
    axes.xaxis.get_offset_text().set(fontsize=7, color=INK)
    axes.yaxis.get_offset_text().set(fontsize=7, color=INK)
    if quantity in SCORES:
        axes.set_ylim(-0.06, 1.02)  # ARI falls below 0 where it is worse than chance
    if legend:
        axes.legend(fontsize=7, labelcolor=INK, frameon=False)
