"""Evaluate a model on a dataset: every metric per image or video, and their means as a table and as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.evaluation.common import (
    batches,
    count_scenes,
    decompose_options,
    platform_facts,
    undisturbed,
    usable_device,
)
from unscene.evaluation.result import Evaluation
from unscene.evaluation.scores import BatchScores, image_scores, join
from unscene.evaluation.video import check_video_options, is_video, prediction_scores, video_scores
from unscene.evaluation.views import are_views, check_view_options, view_scores
from unscene.models.base import MultiViewModel, SceneModel
from unscene.scenes import Scenes

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

    Scenes of several views with their viewpoints: the scores of images, as means over the views that the model sees.
    A MultiViewModel sees ``observe`` of them (by default half, drawn for each scene) and has to show the others, whose
    scores have ``query_`` before their names; see `unscene.evaluation.views.view_scores`.

    Methods may add scores of their own (`SceneModel.own_scores`); of videos these are means over the frames, and for a
    VideoModel, with ``_last_10`` behind the name, over the last 10.

    ``num_slots`` and ``iterations`` default to the model's own. The noise of a batch is a function
    of ``seed`` and the batch alone, and the global generators are left as they were. ``model`` is moved
    to ``device``. ``progress`` is called with (scenes done, scenes in all) after each batch.

    Raises InputError for options that make no sense, an empty selection, ``iterations`` of a model that has none,
    options of videos on images, videos that are too short, a static model that is to predict, or
    a device that cannot be used.
    """
    num_scenes = count_scenes(dataset, limit, batch_size, seed, precision)
    span = {"frames": frames, "skip": skip, "observe": observe, "horizon": horizon}
    if isinstance(model, MultiViewModel):
        check_view_options(**span)
    else:
        check_video_options(model, **span)
    options = decompose_options(model, num_slots, iterations)
    device = usable_device(device)
    scored: list[BatchScores] = []
    begin = time.perf_counter()
    for start, batch in batches(dataset, num_scenes, batch_size):
        batch = {name: batch[name].to(device) for name in SCORED if name in batch}
        with undisturbed(model, device, (seed, start), precision):
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
        **({"views": batch["image"].shape[1]} if are_views(batch) else {}),
        **{name: value for name, value in span.items() if value is not None and name != "frames"},
        "seed": seed,
        "n": num_scenes,
        "batch_size": batch_size,
        "precision": precision,
        "seconds": round(time.perf_counter() - begin, 3),
        **platform_facts(device),
    }
    if found.tracks is not None:
        meta["mot_pooled"] = found.pooled_tracks()
    if "mask" not in batch:
        meta["note"] = "The dataset has no masks, so the segmentation could not be scored."
    return Evaluation(found.values, meta, found.prediction)


def _score(model: SceneModel, batch: Scenes, options: dict[str, int], span: dict[str, int | None]) -> BatchScores:
    """The scores of one batch, of images, videos or views."""
    if is_video(batch):
        scores = video_scores(model, batch, span["frames"], span["skip"] or 0, options)
        if span["horizon"] is None:
            return scores
        return scores._replace(prediction=prediction_scores(model, batch, span["observe"], span["horizon"], options))
    given = [name for name, value in span.items() if value is not None]
    if given and not isinstance(model, MultiViewModel):
        raise InputError(f"{given[0]} is an option for videos, but the dataset holds images; leave it out")
    if are_views(batch):
        return view_scores(model, batch, span["observe"], options)
    decomposition = model.decompose_batch(batch, **options)
    values = image_scores(batch["image"], batch.get("mask"), decomposition) | model.own_scores(batch, decomposition)
    return BatchScores(values, decomposition.masks.shape[-3])
