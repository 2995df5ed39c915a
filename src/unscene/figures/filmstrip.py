"""Videos on paper: a strip of frames, and how errors grow with the horizon of a prediction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Integer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, palette, to_rgb, to_rgba
from unscene.figures.curves import SCORES, style_axes
from unscene.figures.grid import DPI, INK, Tile, image_grid
from unscene.scenes import Decomposition

COLUMNS = 10


def filmstrip(
    video: Float[Tensor, "T C H W"],
    decomposition: Decomposition,
    mask: Integer[Tensor, "T H W"] | None = None,
    *,
    observed: int | None = None,
    columns: int = COLUMNS,
    slots: bool = True,
) -> Figure:
    """Frames from left to right; input, reconstruction, segmentation, and every slot in its colour from top to bottom.

    ``decomposition`` (T', K, ...) is of one video and may go on after the input ends, as predictions do. ``mask``, the
    true one, gets a row of its own. Of long videos ``columns`` frames are shown, evenly spread, numbered from 1.
    With ``observed`` a line is drawn behind so many frames: what follows was predicted, and gets half of the columns.
    """
    length, num_slots = decomposition.masks.shape[:2]
    shown = _choose(length, observed, columns)
    real = [t for t in shown if t < len(video)]
    rows = {"input": [Tile(pixels) for pixels in to_rgb(video[real])]}
    if mask is not None:
        rows["true mask"] = [Tile(pixels) for pixels in colour_labels(mask[real])]
    masks, components = decomposition.masks[shown], decomposition.components[shown]
    rows["reconstruction"] = [Tile(pixels) for pixels in to_rgb((masks.unsqueeze(-3) * components).sum(1))]
    rows["segmentation"] = [Tile(pixels) for pixels in colour_labels(masks.argmax(1))]
    if slots:
        painted = to_rgba(components, masks)
        rows |= {f"slot {k}": [Tile(p, palette(num_slots)[k]) for p in painted[:, k]] for k in range(num_slots)}
    titles = [f"{t + 1}" if observed is None or t < observed else f"{t + 1} (+{t + 1 - observed})" for t in shown]
    figure = image_grid(list(rows.values()), column_titles=titles, row_titles=list(rows))
    if observed is not None and observed < length:
        _draw_line(figure, sum(t < observed for t in shown))
    return figure


def _choose(length: int, observed: int | None, columns: int) -> list[int]:
    """Indices of the frames to show: ends always, and both frames beside the start of the prediction."""
    if columns < 2:
        raise InputError(f"columns is {columns}; a filmstrip needs at least 2")
    if observed is not None and not 1 <= observed <= length:
        raise InputError(f"observed is {observed}, but the decomposition has {length} frames; it counts the first ones")
    if observed is None or observed == length:
        return _spread(0, length, columns)
    predicted = min(length - observed, max(columns // 2, columns - observed))
    return _spread(0, observed, columns - predicted) + _spread(observed, length, predicted)


def _spread(start: int, stop: int, count: int) -> list[int]:
    if count == 1:
        return [stop - 1] if start == 0 else [start]
    return sorted(set(np.linspace(start, stop - 1, min(count, stop - start)).round().astype(int).tolist()))


def _draw_line(figure: Figure, column: int) -> None:
    """A dashed line from top to bottom, half-way between a column of an `image_grid` and the one before."""
    before, after = (figure.texts[j].get_position()[0] for j in (column - 1, column))  # titles are centred
    x = (before + after) / 2
    figure.add_artist(Line2D([x, x], [0.01, 0.99], color=INK, linestyle="--", linewidth=1.2))


def horizon_curves(scores: Mapping[str, Float[np.ndarray, "n M"]]) -> Figure:
    """One plot per score against the horizon: mean over n videos, and from one to the other quartile as a band.

    ``scores`` are those of `unscene.metrics.horizon_errors`, NaN where undefined; ``mse_repeat``, the error of
    repeating the last frame, is a dashed line beside ``mse``.
    """
    repeated = scores.get("mse_repeat")
    scores = {name: values for name, values in scores.items() if name != "mse_repeat" and np.isfinite(values).any()}
    if not scores:
        raise InputError("there are no errors of predictions to draw; predict frames that the video still has")
    figure = Figure(figsize=(3 * len(scores), 2.3), dpi=DPI, layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(scores), squeeze=False)[0], scores.items(), strict=True):
        known = np.isfinite(values).any(0)
        horizon, columns = 1 + np.flatnonzero(known), values[:, known]
        low, high = np.nanquantile(columns, (0.25, 0.75), axis=0)
        colour = palette(6)[5] / 255
        axes.fill_between(horizon, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(horizon, np.nanmean(columns, 0), color=colour, linewidth=1.5, marker=".", label="model")
        top = max(high.max(), np.nanmean(columns, 0).max())
        if beside := name == "mse" and repeated is not None:
            axes.plot(horizon, still := np.nanmean(repeated[:, known], 0), color=INK, linestyle="--", label="repeat")
            top = max(top, still.max())
        style_axes(axes, name, legend=beside)
        axes.set_xlabel("frames ahead", fontsize=8, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name not in SCORES:
            axes.set_ylim(0, 1.1 * top or 1)
    return figure
