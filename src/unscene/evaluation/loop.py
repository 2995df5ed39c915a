"""Evaluate a model on a dataset: every metric per image or video, and their means as a table and as JSON."""

from __future__ import annotations

import inspect
import platform
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import torch
from torch.utils.data import Dataset

from unscene.data.dataset import collate
from unscene.errors import InputError
from unscene.evaluation.result import Evaluation
from unscene.evaluation.scores import BatchScores, image_scores, join
from unscene.evaluation.video import check_video_options, is_video, prediction_scores, video_scores
from unscene.models.base import SceneModel
from unscene.scenes import Scenes

PRECISIONS = ("32-true", "bf16-mixed")  # named as in Lightning
SCORED = ("image", "mask", "viewpoint", "collision")  # what an evaluation needs of a batch


@torch.no_grad()
def evaluate(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    num_slots: int | None = None,
    iterations: int | None = None,
    frames: int | None = None,
    skip: int | None = None,
    observe: int | None = None,
    horizon: int | None = None,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Decompose the first ``limit`` scenes of a map-style dataset and score each.

    Images: always ``mse``; with masks in the data ``ari``, ``fg_ari``, ``miou``, ``miou_fg`` and ``covering`` of the
    argmax segmentation; ``kl`` in nats to a standard normal prior if the model gives a posterior scale
    (for a method with another prior it is a yardstick, not its objective).

    Videos, of which the first ``frames`` frames, but for ``skip`` at their start: always ``mse``; with masks
    ``frame_ari``, ``frame_fg_ari`` (its ``_legacy`` twin counts 1 for each of ``undefined_frames``),
    ``last_frame_fg_ari``, and for a VideoModel ``fg_ari`` of the whole video, ``slot_stability`` and the metrics of
    `unscene.metrics.mot`, whose values for all videos as one are in the meta. Any other model gets every frame as an
    image. With ``observe`` and ``horizon`` the video model also predicts the ``horizon`` frames that follow the first
    ``observe``, see `Evaluation.prediction`.

    Methods may add scores of their own (`SceneModel.own_scores`); of videos these are means over the frames, and for a
    VideoModel, with ``_last_10`` behind the name, over the last 10.

    ``num_slots`` and ``iterations`` default to the model's own. The noise of a batch is a function
    of ``seed`` and the batch alone, and the global generators are left as they were. ``model`` is moved
    to ``device``. ``progress`` is called with (scenes done, scenes in all) after each batch.

    Raises InputError for options that make no sense, an empty selection, ``iterations`` of a model that has none,
    options of videos on images, videos that are too short, a static model that is to predict, or
    a device that cannot be used.
    """
    num_scenes = _num_scenes(dataset, limit, batch_size, seed, precision)
    span = {"frames": frames, "skip": skip, "observe": observe, "horizon": horizon}
    check_video_options(model, **span)
    options = _options(model, num_slots, iterations)
    device = _usable(device)
    scored: list[BatchScores] = []
    begin = time.perf_counter()
    for start, batch in _batches(dataset, num_scenes, batch_size):
        batch = {name: batch[name].to(device) for name in SCORED if name in batch}
        with _undisturbed(model, device, (seed, start), precision):
            scored.append(_score(model, batch, options, span))
        if progress is not None:
            progress(start + len(batch["image"]), num_scenes)
    found = join(scored)
    meta = {
        "model": type(model).__name__,
        "dataset": type(dataset).__name__,
        "num_slots": found.num_slots,
        "iterations": options.get("iterations", getattr(model, "iterations", None)),
        **({"frames": frames or batch["image"].shape[1]} if is_video(batch) else {}),
        **{name: value for name, value in span.items() if value is not None and name != "frames"},
        "seed": seed,
        "n": num_scenes,
        "batch_size": batch_size,
        "precision": precision,
        "seconds": round(time.perf_counter() - begin, 3),
        **_platform(device),
    }
    if found.tracks is not None:
        meta["mot_pooled"] = found.pooled_tracks()
    if "mask" not in batch:
        meta["note"] = "The dataset has no masks, so the segmentation could not be scored."
    return Evaluation(found.values, meta, found.prediction)


def _score(model: SceneModel, batch: Scenes, options: dict[str, int], span: dict[str, int | None]) -> BatchScores:
    """The scores of one batch, of images or of videos."""
    if is_video(batch):
        scores = video_scores(model, batch, span["frames"], span["skip"] or 0, options)
        if span["horizon"] is None:
            return scores
        return scores._replace(prediction=prediction_scores(model, batch, span["observe"], span["horizon"], options))
    given = [name for name, value in span.items() if value is not None]
    if given:
        raise InputError(f"{given[0]} is an option for videos, but the dataset holds images; leave it out")
    decomposition = model.decompose(batch["image"], **options)
    values = image_scores(batch["image"], batch.get("mask"), decomposition) | model.own_scores(batch, decomposition)
    return BatchScores(values, decomposition.masks.shape[-3])


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


@contextmanager
def _undisturbed(model: SceneModel, device: torch.device, key: tuple[int, int], precision: str) -> Iterator[None]:
    """The model on its device in evaluation mode, with noise that depends on ``key`` only."""
    training = model.training
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    with torch.random.fork_rng([device] if device.type == "cuda" else []), mixed:
        torch.manual_seed(int(seed))
        try:
            model.to(device).eval()
            yield
        finally:
            model.train(training)


def _platform(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} {platform.machine()}"
    return {"device": name, "unscene": version("unscene"), "torch": torch.__version__}
