"""Scores of a model on batches of videos: what it makes of the frames it sees, and how well it predicts others."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unscene import metrics
from unscene.errors import InputError
from unscene.evaluation.scores import BatchScores
from unscene.models.base import SceneModel, VideoModel
from unscene.scenes import Scenes
from unscene.video import check_predicts, check_span, follow


class Watched(NamedTuple):
    """Of the Decompositions of a video only what is scored; the components of all frames would fill the memory."""

    reconstruction: Float[Tensor, "B T C H W"]
    segmentation: Int[Tensor, "B T H W"]
    num_slots: int


def watch(model: SceneModel, video: Float[Tensor, "B T C H W"], horizon: int = 0, **options: Any) -> Watched:
    """What the model makes of a video; with ``horizon`` only what it predicts to follow."""
    reconstructions, segmentations = [], []
    for frame, decomposition in follow(model, video.unbind(1), horizon=horizon, **options):
        if frame is None or not horizon:
            reconstructions.append(decomposition.reconstruction)
            segmentations.append(decomposition.segmentation)
    return Watched(torch.stack(reconstructions, 1), torch.stack(segmentations, 1), decomposition.masks.shape[-3])


def video_scores(
    model: SceneModel, batch: Scenes, frames: int | None, skip: int, options: dict[str, int]
) -> BatchScores:
    """The metrics of the first ``frames`` frames of each video; scores of whole videos only if objects are followed.

    The model sees the first ``skip`` of them too, but these are not scored.
    """
    video, mask = first_frames(batch, frames)
    if skip >= video.shape[1]:
        raise InputError(f"skip is {skip}, which leaves none of {video.shape[1]} frames to score; lower it")
    watched = watch(model, video, **options)
    watched = watched._replace(
        reconstruction=watched.reconstruction[:, skip:], segmentation=watched.segmentation[:, skip:]
    )
    video, mask = video[:, skip:], None if mask is None else mask[:, skip:]
    values = {"mse": metrics.mse(video, watched.reconstruction)}
    if mask is None:
        return BatchScores(values, watched.num_slots)
    labels = mask, watched.segmentation
    values = {
        "frame_ari": metrics.frame_ari(*labels),
        "frame_fg_ari": metrics.frame_fg_ari(*labels),
        "frame_fg_ari_legacy": metrics.frame_fg_ari(*labels, undefined=1.0),
        "undefined_frames": metrics.undefined_frames(mask).double(),
        **values,
    }
    if not isinstance(model, VideoModel):
        return BatchScores(values, watched.num_slots)
    tracks = metrics.track_counts(*labels)
    whole = {"fg_ari": metrics.fg_ari(*labels), "slot_stability": metrics.slot_stability(*labels)}
    return BatchScores(whole | tracks.scores() | values, watched.num_slots, tracks=tracks)


def prediction_scores(
    model: SceneModel, batch: Scenes, observe: int, horizon: int, options: dict[str, int]
) -> dict[str, Tensor]:
    """Scores (B, horizon) of the frames that follow the first ``observe``, on predicted frames only."""
    video, mask = batch["image"], batch.get("mask")
    if video.shape[1] < observe + horizon:
        raise InputError(
            f"the videos have {video.shape[1]} frames, too few to observe {observe} and predict {horizon} more; "
            "lower observe or horizon"
        )
    predicted = watch(model, video[:, :observe], horizon, **options)
    future = slice(observe, observe + horizon)
    true = None if mask is None else mask[:, future]
    return metrics.horizon_errors(video[:, future], predicted.reconstruction, true, predicted.segmentation)


def is_video(batch: Scenes) -> bool:
    """Whether a batch holds videos (B, T, C, H, W), and not images or views."""
    return batch["image"].ndim == 5 and "viewpoint" not in batch


def check_video_options(
    model: SceneModel, frames: int | None, skip: int | None, observe: int | None, horizon: int | None
) -> None:
    """Raise InputError for options that make no sense, or not with this model."""
    if frames is not None and frames < 1:
        raise InputError(f"frames is {frames}; there must be at least 1 frame to decompose")
    if skip is not None and skip < 0:
        raise InputError(f"skip is {skip}; it must not be negative")
    if (observe is None) != (horizon is None):
        raise InputError("observe and horizon go together: how many frames the model sees, and how many it predicts")
    if observe is not None:
        check_span(observe, horizon)
        check_predicts(model)


def first_frames(batch: Scenes, frames: int | None) -> tuple[Tensor, Tensor | None]:
    """Video and mask, if any, of the first ``frames`` frames."""
    video, mask = batch["image"], batch.get("mask")
    if frames is not None and frames > video.shape[1]:
        raise InputError(f"frames is {frames}, but the videos have only {video.shape[1]}; lower frames")
    return video[:, :frames], None if mask is None else mask[:, :frames]
