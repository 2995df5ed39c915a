"""Evaluate a model on a dataset: every metric per image, and their means as a table and as JSON."""

import inspect
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unscene import metrics
from unscene.data.dataset import collate
from unscene.errors import InputError
from unscene.files import write_json
from unscene.models.base import SceneModel
from unscene.scenes import Decomposition, Scenes

PRECISIONS = ("32-true", "bf16-mixed")  # named as in Lightning


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a dataset, and how they came about.

    ``values`` {metric: (n,) float64}: one per image, NaN where undefined. ``meta`` is JSON-able.
    """

    values: dict[str, np.ndarray]
    meta: dict[str, Any]

    def summary(self) -> dict[str, dict[str, float | int | None]]:
        """Per metric ``mean`` and ``std`` (population) over the images where it is finite, and their number ``n``."""
        return {name: _summary(values[np.isfinite(values)]) for name, values in self.values.items()}

    def table(self) -> str:
        """The summary as aligned text, one metric per line."""
        header = f"{'metric':<10}{'mean':>12}{'std':>12}{'n':>8}"
        rows = [
            f"{name:<10}{_number(row['mean'])}{_number(row['std'])}{row['n']:>8}"
            for name, row in self.summary().items()
        ]
        note = [self.meta["note"]] if self.meta.get("note") else []
        return "\n".join([header, *rows, *note])

    def to_json(self) -> dict[str, Any]:
        """``{"metrics": {name: {"mean", "std", "n"}}, "meta": {...}}``; a mean over no image is None."""
        return {"metrics": self.summary(), "meta": self.meta}

    def save(self, path: str | Path) -> None:
        """Write `to_json` to a file, which appears complete or not at all."""
        write_json(self.to_json(), path)


@torch.no_grad()
def evaluate(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    num_slots: int | None = None,
    iterations: int | None = None,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Decompose the first ``limit`` scenes of a map-style dataset and score each.

    Always ``mse``; with masks in the data ``ari``, ``fg_ari``, ``miou``, ``miou_fg`` and ``covering`` of the
    argmax segmentation; ``kl`` in nats to a standard normal prior if the model gives a posterior scale
    (for a method with another prior it is a yardstick, not its objective).

    ``num_slots`` and ``iterations`` default to the model's own. The noise of a batch is a function
    of ``seed`` and the batch alone, and the global generators are left as they were. ``model`` is moved
    to ``device``. ``progress`` is called with (scenes done, scenes in all) after each batch.

    Raises InputError for options that make no sense, an empty selection, ``iterations`` of a model that has none, or
    a device that cannot be used.
    """
    num_scenes = _num_scenes(dataset, limit, batch_size, seed, precision)
    options = _options(model, num_slots, iterations)
    device = _usable(device)
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    begin = time.perf_counter()
    for start, batch in _batches(dataset, num_scenes, batch_size):
        image = batch["image"].to(device)
        decomposition = _decompose(model, image, options, (seed, start), precision)
        for name, values in _scores(image, batch.get("mask"), decomposition).items():
            parts[name].append(values.cpu().numpy())
        if progress is not None:
            progress(start + len(image), num_scenes)
    meta = {
        "model": type(model).__name__,
        "dataset": type(dataset).__name__,
        "num_slots": decomposition.masks.shape[-3],
        "iterations": options.get("iterations", getattr(model, "iterations", None)),
        "seed": seed,
        "n": num_scenes,
        "batch_size": batch_size,
        "precision": precision,
        "seconds": round(time.perf_counter() - begin, 3),
        **_platform(device),
    }
    if "mask" not in batch:
        meta["note"] = "The dataset has no masks, so the segmentation could not be scored."
    return Evaluation({name: np.concatenate(values) for name, values in parts.items()}, meta)


def _num_scenes(dataset: Sized, limit: int | None, batch_size: int, seed: int, precision: str) -> int:
    """How many scenes to evaluate, if the options make sense."""
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    num_scenes = len(dataset) if limit is None else min(limit, len(dataset))
    if num_scenes < 1 or batch_size < 1:
        raise InputError(
            f"nothing to evaluate: the dataset has {len(dataset)} scenes, limit is {limit} and batch_size {batch_size}"
        )
    return num_scenes


def _options(model: SceneModel, num_slots: int | None, iterations: int | None) -> dict[str, int]:
    """The keyword arguments of `decompose` that the caller chose."""
    given = {"num_slots": num_slots, "iterations": iterations}
    options = {name: value for name, value in given.items() if value is not None}
    if "iterations" in options and "iterations" not in inspect.signature(model.decompose).parameters:
        raise InputError(f"{type(model).__name__} does not refine in iterations; leave iterations out")
    return options


def _usable(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); leave it out, or name cpu") from error


def _batches(dataset: Dataset | Sequence[Scenes], num_scenes: int, batch_size: int) -> Iterator[tuple[int, Scenes]]:
    """(Index of the first scene, batch); a plain loop, for a DataLoader would draw from the global generator."""
    fetch = getattr(dataset, "__getitems__", lambda indices: [dataset[i] for i in indices])
    for start in range(0, num_scenes, batch_size):
        yield start, collate(fetch(range(start, min(start + batch_size, num_scenes))))


def _decompose(
    model: SceneModel, image: Tensor, options: dict[str, int], key: tuple[int, int], precision: str
) -> Decomposition:
    """Decompose in evaluation mode, with noise that depends on ``key`` only."""
    device, training = image.device, model.training
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    with torch.random.fork_rng([device] if device.type == "cuda" else []), mixed:
        torch.manual_seed(int(seed))
        try:
            return model.to(device).eval().decompose(image, **options)
        finally:
            model.train(training)


def _scores(image: Tensor, mask: Tensor | None, decomposition: Decomposition) -> dict[str, Tensor]:
    """Each metric's value per image (B,)."""
    scores = {"mse": metrics.mse(image, decomposition.reconstruction)}
    if decomposition.slot_scale is not None:
        scores["kl"] = metrics.normal_kl(decomposition.slots, decomposition.slot_scale)
    if mask is None:
        return scores
    true, pred = mask.to(image.device), decomposition.segmentation
    return {
        "ari": metrics.ari(true, pred),
        "fg_ari": metrics.fg_ari(true, pred),
        "miou": metrics.miou(true, pred),
        "miou_fg": metrics.miou(true, pred, background=False),
        "covering": metrics.segmentation_covering(true, pred),
        **scores,
    }


def _platform(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} {platform.machine()}"
    return {"device": name, "unscene": version("unscene"), "torch": torch.__version__}


def _summary(values: np.ndarray) -> dict[str, float | int | None]:
    mean, std = (values.mean().item(), values.std().item()) if len(values) else (None, None)
    return {"mean": mean, "std": std, "n": len(values)}


def _number(value: float | None) -> str:
    return f"{'-':>12}" if value is None else f"{value:>12.5g}"
