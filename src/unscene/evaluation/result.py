"""What an evaluation found, as arrays, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unscene.evaluation.aligned import aligned, number
from unscene.files import write_json
from unscene.metrics import running_mean


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a dataset, and how they came about.

    ``values`` {metric: (n,) float64}: one per image or video, NaN where undefined. ``prediction`` {metric: (n, M)}
    likewise, of frames predicted 1 to M steps ahead; {} if nothing was predicted. ``meta`` is JSON-able.
    """

    values: dict[str, np.ndarray]
    meta: dict[str, Any]
    prediction: dict[str, np.ndarray] = field(default_factory=dict)

    def summary(self) -> dict[str, dict[str, float | int | None]]:
        """Per metric ``mean`` and ``std`` (population) over the images where it is finite, and their number ``n``."""
        return {name: _summary(values[np.isfinite(values)]) for name, values in self.values.items()}

    def table(self) -> str:
        """The summary as aligned text, one metric per line; then predictions, one horizon per line."""
        rows = [(name, number(row["mean"]), number(row["std"]), str(row["n"])) for name, row in self.summary().items()]
        text = aligned([("metric", "mean", "std", "n"), *rows])
        if self.prediction:
            text += "\n\n" + aligned(self._horizons())
        return f"{text}\n{self.meta['note']}" if self.meta.get("note") else text

    def _horizons(self) -> list[tuple[str, ...]]:
        """Titles, then a line for each horizon."""
        columns = [(name, key, row[key]) for name, row in by_horizon(self.prediction).items() for key in row]
        titles = (name if key == "at" else f"{name} 1..h" for name, key, _ in columns)
        lines = zip(*(values for _, _, values in columns), strict=True)
        return [("horizon", *titles), *((str(h), *map(number, line)) for h, line in enumerate(lines, 1))]

    def to_json(self) -> dict[str, Any]:
        """``{"metrics": {name: {"mean", "std", "n"}}, "meta": {...}}``; a mean over no image is None.

        With predictions also ``"prediction": {name: {"at": [...], "mean": [...]}}``: at each horizon, and on average
        up to it.
        """
        predicted = {"prediction": by_horizon(self.prediction)} if self.prediction else {}
        return {"metrics": self.summary(), **predicted, "meta": self.meta}

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file, which appears complete or not at all."""
        write_json(self.to_json(), path)


def by_horizon(prediction: dict[str, np.ndarray]) -> dict[str, dict[str, list[float | None]]]:
    """Means over the videos of scores (n, M): ``at`` each horizon, and ``mean`` over horizons 1 to h."""
    table = {}
    for name, values in prediction.items():
        at = torch.from_numpy(values)
        both = {"at": at, "mean": running_mean(at)}
        table[name] = {key: [or_none(value) for value in scores.nanmean(0).tolist()] for key, scores in both.items()}
    return table


def or_none(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if np.isfinite(value) else None


def _summary(values: np.ndarray) -> dict[str, float | int | None]:
    mean, std = (values.mean().item(), values.std().item()) if len(values) else (None, None)
    return {"mean": mean, "std": std, "n": len(values)}
