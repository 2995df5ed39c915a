"""What is in a data set: sizes, number of objects, ranges and categories of the factors."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from unscene.data.batches import batches
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.scenes import Scenes


def summarise(dataset: SceneDataset, limit: int | None = 1000) -> dict[str, Any]:
    """Summary of the first ``limit`` scenes (None: of all), as plain JSON-able values.

    ``dataset`` (class name), ``splits`` (of its source: `SceneDataset.splits`), ``scenes`` (in the data set),
    ``summarised`` (looked at); ``image``:
    ``shape`` without batch axis, ``dtype``, ``range`` [min, max]; ``objects``: {number of visible
    objects: scenes}, None without labels; ``factors``: {name: {"range": [min, max]}} of continuous and
    {name: {"counts": {category: objects}}} of categorical factors, over the visible objects. Of multi-view scenes also
    ``viewpoint``: ``shape``, ``range``, and whether it is the ``same`` in all scenes.
    Raises InputError if ``limit`` is below 1 or the data set is empty.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; summarise at least 1 scene, or all with None")
    if len(dataset) == 0:
        raise InputError(f"{type(dataset).__name__} holds no scenes; there is nothing to summarise")
    count = len(dataset) if limit is None else min(limit, len(dataset))
    lows, highs, objects, viewpoints, factors = [], [], [], [], {}
    for _, batch in batches(dataset, count):
        low, high = torch.aminmax(batch["image"])
        lows.append(low.item())
        highs.append(high.item())
        objects += _count_objects(batch)
        viewpoints += batch.get("viewpoint", ())
        for name, values in _visible_factors(batch).items():
            factors.setdefault(name, []).append(values)
    return {
        "dataset": type(dataset).__name__,
        "splits": dataset.splits,
        "scenes": len(dataset),
        "summarised": count,
        "image": {
            "shape": list(batch["image"].shape[1:]),
            "dtype": str(batch["image"].dtype).removeprefix("torch."),
            "range": [min(lows), max(highs)],
        },
        **({"viewpoint": _summarise_viewpoints(torch.stack(viewpoints))} if viewpoints else {}),
        "objects": dict(sorted(Counter(objects).items())) or None,
        "factors": {name: _summarise_factor(torch.cat(chunks)) for name, chunks in factors.items()},
    }


def format_summary(summary: dict[str, Any]) -> str:
    """The summary as an aligned table, one line per item, counts as value:count; long lines wrap at 100 columns."""
    image = summary["image"]
    rows = {"splits": _format_splits(summary["splits"])} if summary["splits"] else {}
    rows |= {
        "scenes": f"{summary['scenes']}; what follows describes the first {summary['summarised']}",
        "image": f"{image['dtype']} {tuple(image['shape'])}, {_format_range(image['range'])}",
        "objects": "no labels" if summary["objects"] is None else _format_counts(summary["objects"]),
    }
    if "viewpoint" in summary:
        viewpoint = summary["viewpoint"]
        same = "the same in all scenes" if viewpoint["same"] else "different between scenes"
        rows["viewpoint"] = f"{tuple(viewpoint['shape'])}, {_format_range(viewpoint['range'])}, {same}"
    for name, factor in summary["factors"].items():
        rows[name] = _format_range(factor["range"]) if "range" in factor else _format_counts(factor["counts"])
    width = max(map(len, rows)) + 2
    indent = " " * width
    lines = [
        textwrap.fill(name.ljust(width) + text, width=100, subsequent_indent=indent, break_on_hyphens=False)
        for name, text in rows.items()
    ]
    return "\n".join([summary["dataset"], *lines])


def _count_objects(batch: Scenes) -> list[int]:
    """Visible objects of each scene, without the background; empty if there are no labels."""
    if "visibility" in batch:
        return batch["visibility"][:, 1:].sum(1).tolist()
    return [len(torch.unique(mask[mask > 0])) for mask in batch.get("mask", ())]


def _visible_factors(batch: Scenes) -> dict[str, Tensor]:
    """{name: (objects, ...)} of the visible objects, without the background."""
    factors = batch.get("factors", {})
    if "visibility" not in batch:
        return {name: value[:, 1:].flatten(0, 1) for name, value in factors.items()}
    visible = batch["visibility"].bool()
    return {name: value[:, 1:][visible[:, 1:]] for name, value in factors.items()}


def _summarise_viewpoints(viewpoints: Tensor) -> dict[str, Any]:
    return {
        "shape": list(viewpoints.shape[1:]),
        "range": [viewpoints.min().item(), viewpoints.max().item()],
        "same": bool((viewpoints == viewpoints[0]).all()),
    }


def _summarise_factor(values: Tensor) -> dict[str, Any]:
    if values.is_floating_point() and values.numel():
        return {"range": [values.min().item(), values.max().item()]}
    return {"counts": dict(sorted(Counter(values.flatten().tolist()).items()))}


def _format_splits(splits: dict[str, int | None]) -> str:
    if None in splits.values():
        return f"{', '.join(splits)}; scenes are drawn on demand"
    return ", ".join(f"{name}:{size}" for name, size in splits.items())


def _format_range(bounds: list[float]) -> str:
    low, high = bounds
    return f"{low:.4g} to {high:.4g}"


def _format_counts(counts: dict[int, int]) -> str:
    return ", ".join(f"{value}:{count}" for value, count in counts.items()) or "none"
