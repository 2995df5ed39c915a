"""Scores of a model on batches of videos: what it makes of the frames it sees, and how well it predicts others."""

from __future__ import annotations

from collections.abc import Sequence
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

LAST = 10  # frames over which R-NEM's code averages besides


class Watched(NamedTuple):
    """Of the Decompositions of a video only what is scored; the components of all frames would fill the memory.

    ``own`` {name: (B,)} of each frame are the scores that only this method has.
    """

    reconstruction: Float[Tensor, "B T C H W"]
    segmentation: Int[Tensor, "B T H W"]
    own: list[dict[str, Tensor]]
    num_slots: int


def watch(model: SceneModel, videos: Scenes, **options: Any) -> Watched:
    """What the model makes of videos."""
    frames = [{name: value[:, t] for name, value in videos.items()} for t in range(videos["image"].shape[1])]
    reconstructions, segmentations, own = [], [], []
    for t, (_, decomposition) in enumerate(follow(model, videos["image"].unbind(1), **options)):
        reconstructions.append(decomposition.reconstruction)
        segmentations.append(decomposition.segmentation)
        own.append(model.own_scores(frames[t], decomposition, frames[t - 1] if t else None))
    num_slots = decomposition.masks.shape[-3]
    return Watched(torch.stack(reconstructions, 1), torch.stack(segmentations, 1), own, num_slots)


def video_scores(
    model: SceneModel, batch: Scenes, frames: int | None, skip: int, options: dict[str, int]
) -> BatchScores:
    """The metrics of the first ``frames`` frames of each video; scores of whole videos only if objects are followed.

    The model sees the first ``skip`` of them too, but these are not scored.
    """
    videos = first_frames(batch, frames)
    if skip >= videos["image"].shape[1]:
        raise InputError(f"skip is {skip}, which leaves none of {videos['image'].shape[1]} frames to score; lower it")
    watched = watch(model, videos, **options)
    segmentation, follows = watched.segmentation[:, skip:], isinstance(model, VideoModel)
    values = {"mse": metrics.mse(videos["image"][:, skip:], watched.reconstruction[:, skip:])}
    values |= own_means(watched.own[skip:])
    if follows:
        values |= {f"{name}_last_{LAST}": mean for name, mean in own_means(watched.own[skip:][-LAST:]).items()}
    if "mask" not in videos:
        return BatchScores(values, watched.num_slots)
    labels = videos["mask"][:, skip:], segmentation
    values = {
        "frame_ari": metrics.frame_ari(*labels),
        "frame_fg_ari": metrics.frame_fg_ari(*labels),
        "frame_fg_ari_legacy": metrics.frame_fg_ari(*labels, undefined=1.0),
        "last_frame_fg_ari": metrics.fg_ari(*(label[:, -1] for label in labels)),
        "undefined_frames": metrics.undefined_frames(labels[0]).double(),
        **values,
    }
    if not follows:
        return BatchScores(values, watched.num_slots)
    tracks = metrics.track_counts(*labels)
    whole = {"fg_ari": metrics.fg_ari(*labels), "slot_stability": metrics.slot_stability(*labels)}
    return BatchScores(whole | tracks.scores() | values, watched.num_slots, tracks=tracks)


def own_means(frames: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Scores {name: (B,)} of each frame, mean over the frames that have them; NaN, nothing to measure, is left out."""
    names = dict.fromkeys(name for frame in frames for name in frame)
    return {name: torch.stack([frame[name] for frame in frames if name in frame]).nanmean(0) for name in names}


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
    steps = follow(model, video[:, :observe].unbind(1), horizon=horizon, **options)
    predicted = [(d.reconstruction, d.segmentation) for image, d in steps if image is None]
    reconstruction, segmentation = (torch.stack(frames, 1) for frames in zip(*predicted, strict=True))
    future = slice(observe, observe + horizon)
    true = None if mask is None else mask[:, future]
    return metrics.horizon_errors(video[:, future], reconstruction, true, segmentation, video[:, observe - 1])


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


def first_frames(batch: Scenes, frames: int | None) -> Scenes:
    """The first ``frames`` frames of videos, with their labels."""
    length = batch["image"].shape[1]
    if frames is not None and frames > length:
        raise InputError(f"frames is {frames}, but the videos have only {length}; lower frames")
    return {name: value[:, :frames] for name, value in batch.items()}
