"""`unscene train RECIPE --restarts n`: trainings that differ in the seed alone; that with the lowest loss is kept."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from unscene.errors import InputError
from unscene.evaluation.aligned import aligned, number
from unscene.files import replacing, write_json
from unscene.training.checkpoint import LAST, link_atomically
from unscene.training.logger import read_rows
from unscene.training.module import TrainingDiverged
from unscene.training.run import RunFolder
from unscene.training.sprite_film import FILM

RESULT = "restart.json"  # in the folder of a restart; says that it is complete

Train = Callable[[Path, int, str | None], RunFolder]


def train_restarts(train: Train, folder: RunFolder, seeds: range, max_steps: int, ckpt_path: str | None) -> RunFolder:
    """Train with each seed in RUN/restart-0, RUN/restart-1, ..., and make the best one the training in ``folder``.

    The best has the lowest training loss, which needs no labels: the mean over the last tenth of the losses in its
    metrics.csv. One that diverged is out. With ``ckpt_path`` "last" those that are complete are not done again.

    Args:
        train: trains in a folder, with a seed, from a checkpoint or None.
        folder: RUN. It gets the metrics, weights, film and last checkpoint of the best, and the table, restarts.json.
        seeds: one training each.
        max_steps: steps of each; those that had fewer are continued.
        ckpt_path: None for new trainings, or "last".

    Raises:
        InputError: ``folder`` holds a training already, there is none to continue, or all have diverged.
    """
    places = [RunFolder(folder.path / f"restart-{i}") for i in range(len(seeds))]
    if ckpt_path is None:
        for place in (folder, *places):
            place.start(None)  # refuses what holds a training
    elif ckpt_path != "last" or not places[0].path.is_dir():
        raise InputError(
            f"{folder.path} cannot go on from {ckpt_path}: with --restarts that is --ckpt_path last, "
            "for restarts that have begun; leave it out to start"
        )
    results = [
        _result(train, place, seed, max_steps, continued=ckpt_path is not None)
        for place, seed in zip(places, seeds, strict=True)
    ]
    best = min(range(len(seeds)), key=lambda i: _loss(results[i]))
    if results[best]["loss"] is None:
        raise InputError("all restarts diverged; lower the learning rate or clip gradients")
    _finish(places[best], folder, results, best)
    return folder


def final_loss(metrics: Path) -> float:
    """Mean over the last tenth of the training losses in a metrics.csv."""
    losses = [float(row["loss"]) for row in read_rows(metrics)[1] if row.get("loss")]
    if not losses:
        raise InputError(f"{metrics} has no training losses to compare; lower --trainer.log_every_n_steps")
    last = losses[-max(len(losses) // 10, 1) :]
    return sum(last) / len(last)


def table(results: list[dict[str, Any]], best: int) -> str:
    """Aligned text: seed and loss of each restart."""
    rows = [("seed", "loss", "")]
    for i, result in enumerate(results):
        loss = "diverged" if result["loss"] is None else number(result["loss"])
        rows.append((str(result["seed"]), loss, "kept" if i == best else ""))
    return aligned(rows)


def _result(train: Train, place: RunFolder, seed: int, max_steps: int, continued: bool) -> dict[str, Any]:
    """Seed, steps and loss (None if it diverged) of a restart, which is trained unless that is done."""
    path = place.path / RESULT
    if continued and path.is_file():
        result = json.loads(path.read_text())
        if result["seed"] != seed:
            raise InputError(f"{place.path} was trained with seed {result['seed']}, not {seed}; continue with its seed")
        if result["max_steps"] == max_steps:
            return result
    begun = continued and (place.checkpoints / LAST).is_file()
    try:
        train(place.path, seed, "last" if begun else None)
        loss = final_loss(place.metrics) if rank_zero_only.rank == 0 else math.nan  # of the process that writes them
    except TrainingDiverged:
        loss = None
    result = {"seed": seed, "max_steps": max_steps, "loss": loss}
    rank_zero_only(write_json)(result, path)
    return result


def _loss(result: dict[str, Any]) -> float:
    return math.inf if result["loss"] is None else result["loss"]


@rank_zero_only
def _finish(winner: RunFolder, folder: RunFolder, results: list[dict[str, Any]], best: int) -> None:
    """Make ``folder`` a training like the winner's, with its last checkpoint."""
    with replacing(folder.metrics) as temporary:
        shutil.copy(winner.metrics, temporary)
    with replacing(folder.config) as temporary:
        config = yaml.safe_load(winner.config.read_text()) | {"run": str(folder.path)}
        temporary.write_text(yaml.safe_dump(config, sort_keys=False))
    for source, target in ((winner.best, folder.best), (winner.model, folder.model)):
        if source.is_dir():
            with replacing(target) as temporary:
                shutil.copytree(source, temporary)
    if (winner.path / FILM).is_file():
        shutil.copy(winner.path / FILM, folder.path / FILM)
    link_atomically(winner.checkpoints / LAST, folder.checkpoints / LAST)
    write_json({"kept": winner.path.name, "restarts": results}, folder.path / "restarts.json")
    print(table(results, best))
