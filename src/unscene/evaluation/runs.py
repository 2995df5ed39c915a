"""Several trainings of one recipe: mean and spread of their scores, with and without those that failed.

DTI-Sprites (Monnier et al., ICCV 2021) reports 5 to 10 runs and leaves out one whose reconstruction is far worse than
that of the others, without a threshold. Here a run is dropped if its reconstruction loss is above 1.5 times the median
of all runs: a rule that reads no labels. Both means are always given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unscene.errors import InputError
from unscene.evaluation.aligned import aligned

OUTLIER = 1.5  # times the median loss
POOLED = ("semantic", "clustering", "cosegmentation")  # scores of all images as one, in the meta of an evaluation
SAME = ("model", "dataset", "n")  # in the meta of evaluations that can be compared


@dataclass(frozen=True)
class Runs:
    """``scores`` {metric: {"all", "kept": {"mean", "std"}}} over runs, and which of the ``num_runs`` were dropped.

    ``std`` is that of a sample (n - 1), None for a single run; what is undefined for any run is None.
    """

    num_runs: int
    dropped: list[int]
    scores: dict[str, dict[str, dict[str, float | None]]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        """Aligned text: mean ± standard deviation over all runs, and over those that are kept."""
        kept = self.num_runs - len(self.dropped)
        rows = ((name, _number(row["all"]), _number(row["kept"])) for name, row in self.scores.items())
        return aligned([("metric", f"all {self.num_runs} runs", f"{kept} runs kept"), *rows])


def runs_table(evaluations: Sequence[Mapping[str, Any]], loss: str = "mse") -> Runs:
    """Average what `Evaluation.to_json` says of several trainings; ``loss`` is the metric by which runs are dropped.

    Scores that not all evaluations have are left out. The semantic, clustering and cosegmentation scores of
    `unscene.evaluation.sprites.class_scores` are averaged too if they are in the meta.
    Raises InputError for no run, runs without that loss, and runs that were not evaluated on the same images.
    """
    if not evaluations:
        raise InputError("there is no run to average; give at least one")
    _check_same(evaluations)
    runs = [_scores(evaluation) for evaluation in evaluations]
    losses = [run.get(loss) for run in runs]
    if None in losses:
        raise InputError(
            f"run {losses.index(None) + 1} has no {loss}, by which failed runs are found; evaluate it again"
        )
    dropped = [i for i, value in enumerate(losses) if value > OUTLIER * np.median(losses)]
    kept = [run for i, run in enumerate(runs) if i not in dropped]
    names = [name for name in runs[0] if all(name in run for run in runs)]
    scores = {
        name: {"all": _spread([run[name] for run in runs]), "kept": _spread([run[name] for run in kept])}
        for name in names
    }
    return Runs(len(runs), dropped, scores)


def read_evaluation(run: Path) -> dict[str, Any]:
    """RUN/evaluation.json of the folder of a training."""
    path = Path(run) / "evaluation.json"
    if not path.is_file():
        raise InputError(f"there is no {path}; evaluate the run first: unscene evaluate {run} DATA")
    try:
        evaluation = json.loads(path.read_text())
        return {"metrics": dict(evaluation["metrics"]), "meta": dict(evaluation["meta"])}
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is damaged; evaluate the run again") from error


def _scores(evaluation: Mapping[str, Any]) -> dict[str, float | None]:
    """The means over images, and the scores of all images as one, by name."""
    pooled = {
        f"{group} {name}": value
        for group in POOLED
        for name, value in evaluation["meta"].get(group, {}).items()
        if not name.startswith("num_")
    }
    return {name: row["mean"] for name, row in evaluation["metrics"].items()} | pooled


def _check_same(evaluations: Sequence[Mapping[str, Any]]) -> None:
    for number, evaluation in enumerate(evaluations[1:], 2):
        for name in SAME:
            first, other = (one["meta"].get(name) for one in (evaluations[0], evaluation))
            if first != other:
                raise InputError(
                    f"run 1 was evaluated with {name} {first} and run {number} with {other}; evaluate all on the same"
                )


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    if None in values:
        return {"mean": None, "std": None}
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def _number(row: Mapping[str, float | None]) -> str:
    if row["mean"] is None:
        return "-"
    return f"{row['mean']:.4g}" + ("" if row["std"] is None else f" ± {row['std']:.2g}")
