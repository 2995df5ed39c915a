"""The experiment of the LDS paper: trainings that differ in the prior alone, seed by seed, and what that changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from unscene.commands.train import main as train
from unscene.data import open_dataset
from unscene.data.dataset import SceneDataset
from unscene.data.views import Views
from unscene.errors import InputError
from unscene.evaluation import evaluate
from unscene.evaluation.aligned import aligned
from unscene.evaluation.compare import Comparison, compare, over_seeds
from unscene.evaluation.gap import inference_gap
from unscene.files import replacing, write_json
from unscene.models.base import MultiViewModel, SceneModel
from unscene.pretrained import load
from unscene.priors.lds import LDS
from unscene.progress import progress
from unscene.training.run import RunFolder

SHOWN = ("mse", "mse_rgb", "miou", "fg_ari", "similarity", "similarity_abs", "gap")  # in this order


@dataclass(frozen=True)
class Scoring:
    """How trainings are scored, the same for all."""

    data: str
    options: dict[str, Any]
    limit: int
    gap_limit: int
    gap_samples: int

    def scores(self, folder: RunFolder, num_slots: int | None) -> dict[str, np.ndarray]:
        """Per-image scores of a training, kept in its folder; the gap's, of fewer images, are NaN for the others."""
        path = folder.path / f"scores{'' if num_slots is None else f'-{num_slots}'}.npz"
        if not path.is_file():
            model = load(folder.path)
            dataset = self._dataset(model)
            values = dict(evaluate(model, dataset, num_slots=num_slots, limit=self.limit, progress=progress).values)
            if hasattr(model, "posteriors") and self.gap_limit:
                sizes = {"limit": min(self.gap_limit, self.limit), "num_samples": self.gap_samples}
                gap = inference_gap(model, dataset, num_slots=num_slots, **sizes, progress=progress).values
                values |= {name: _padded(scores, len(values["mse"])) for name, scores in gap.items()}
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **values)
        with np.load(path) as scores:
            return dict(scores)

    def _dataset(self, model: SceneModel) -> SceneDataset:
        """For a model of single images, the views of scenes one by one."""
        dataset = open_dataset(self.data, **self.options)
        first = dataset[0]
        of_views = "viewpoint" in first and first["image"].ndim == 4
        return Views(dataset) if of_views and not isinstance(model, MultiViewModel) else dataset


def run_experiment(
    recipe: str,
    overrides: Sequence[str],
    *,
    run: Path,
    seeds: Sequence[int],
    priors: dict[str, dict[str, Any]],
    train_slots: Sequence[int | None],
    test_slots: Sequence[int | None],
    scoring: Scoring,
) -> dict[str, Any]:
    """Train and compare, print the tables, and return them; what is there already is neither trained nor scored again.

    Every prior {name: options of LDS} and every K of ``train_slots`` gives a training per seed in RUN/NAME-kK-seedS,
    and "plain" is the one without prior. Each is scored with every K of ``test_slots``.
    Raises InputError before the first training for a prior with options that it does not know, or with K = 1.
    """
    for slots, options in product(train_slots, priors.values()):
        LDS.from_options(options, slots)
    tables = {}
    for slots in train_slots:
        folders = {
            (name, seed): _train(recipe, overrides, run, name, options, slots, seed)
            for seed in seeds
            for name, options in {"plain": None, **priors}.items()
        }
        for tested in test_slots:
            scores = {key: scoring.scores(folder, tested) for key, folder in folders.items()}
            for name in priors:
                pairs = [compare(scores["plain", seed], scores[name, seed]) for seed in seeds]
                title = f"{name}, trained with K = {slots or 'recipe'}, tested with K = {tested or 'the same'}"
                tables[title] = over_seeds(pairs)
                print(f"\n{title}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}\n{table(pairs)}")
    write_json(tables, run / "experiment.json")
    return tables


def table(comparisons: Sequence[Comparison]) -> str:
    """Aligned text: each score without and with the prior and its drop, mean ± standard deviation over seeds."""
    averages = over_seeds(comparisons)
    rows = {name: averages["scores"][name] for name in SHOWN if name in averages["scores"]}
    rows |= {f"{rule} (% of images)": row for rule, row in averages["percent"].items()}
    titles = ("without", "with", "drop")
    scores = [(name, *(_spread(row[title]) for title in titles)) for name, row in rows.items()]
    lines = [aligned([("", *titles), *scores])]
    lines += [f"Pearson of gap drop and {name}: {_spread(r)}" for name, r in averages["correlations"].items()]
    return "\n".join(lines)


def _train(
    recipe: str,
    overrides: Sequence[str],
    run: Path,
    name: str,
    prior: dict[str, Any] | None,
    num_slots: int | None,
    seed: int,
) -> RunFolder:
    """The folder of a finished training; one that was interrupted is continued."""
    slots = "" if num_slots is None else f"-k{num_slots}"
    folder = RunFolder(run / f"{name}{slots}-seed{seed}")
    settings = {"recipe": recipe, "overrides": list(overrides), "lds": prior, "num_slots": num_slots}
    if _is_finished(folder, settings):
        return folder
    options = ["--run", str(folder.path), "--seed", str(seed), "--model.lds", json.dumps(prior), *overrides]
    options += [] if num_slots is None else ["--model.num_slots", str(num_slots)]
    train([recipe, *options, *(["--ckpt_path", "last"] if (folder.checkpoints / "last.ckpt").exists() else [])])
    write_json(settings, folder.path / "experiment.json")  # only now: it says that the training is complete
    return folder


def _is_finished(folder: RunFolder, settings: dict[str, Any]) -> bool:
    path = folder.path / "experiment.json"
    if not path.is_file():
        return False
    if json.loads(path.read_text()) != settings:
        raise InputError(f"{folder.path} holds a training with other settings; name another folder with --run")
    return True


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.full(length - len(values), np.nan)])


def _spread(number: dict[str, float | None]) -> str:
    if number["mean"] is None:
        return "–"
    return f"{number['mean']:.4g}" + ("" if number["std"] is None else f" ± {number['std']:.2g}")
