"""Scores of videos frame by frame, and errors of predicted frames against their horizon.

Label maps are (B, T, H, W), integers. A score per frame does not see whether a slot keeps its object;
`unscene.metrics.fg_ari` of the whole video and `unscene.metrics.tracking` do.
"""

from collections.abc import Callable

from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from unscene.errors import InputError
from unscene.metrics.pixel import mse
from unscene.metrics.rand_index import ari, fg_ari


def frame_ari(true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."]) -> Float64[Tensor, "B"]:
    """ARI of every frame, background included, mean over the frames: the ARI of PROVIDE (Zablotskaia et al., 2020)."""
    return _per_frame(ari, true, pred).mean(1)


def frame_fg_ari(
    true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], undefined: float | None = None
) -> Float64[Tensor, "B"]:
    """ARI of every frame over the pixels whose true id is not 0, mean over the frames: PROVIDE's F-ARI.

    Frames without foreground have no score. They are left out, and a video of only such frames is NaN; or they
    count ``undefined``, which is 1.0 in PROVIDE's code and raises the mean (`undefined_frames` says how many).
    """
    scores = _per_frame(fg_ari, true, pred)
    return (scores if undefined is None else scores.nan_to_num(nan=undefined)).nanmean(1)


def undefined_frames(true: Shaped[Tensor, "B ..."]) -> Int64[Tensor, "B"]:
    """Number of frames without foreground, in which `frame_fg_ari` is undefined."""
    return (true == 0).flatten(2).all(2).sum(1)


def horizon_errors(
    video: Float[Tensor, "B M C H W"],
    reconstruction: Float[Tensor, "..."],
    true: Shaped[Tensor, "B M ..."] | None = None,
    pred: Shaped[Tensor, "..."] | None = None,
    last: Float[Tensor, "B C H W"] | None = None,
) -> dict[str, Float64[Tensor, "B M"]]:
    """Scores of M predicted frames against the real ones; column h - 1 belongs to horizon h.

    ``mse`` always, ``ari`` and ``fg_ari`` (NaN without foreground) if both label maps are given. Observed frames
    must not be among them: PROVIDE's code averages over both, which hides what prediction costs.
    With the ``last`` observed frame also ``mse_repeat``, the error of one who just repeats it.
    `running_mean` gives the averages over horizons 1 to h.
    """
    if video.shape != reconstruction.shape:
        raise InputError(f"video {tuple(video.shape)} and prediction {tuple(reconstruction.shape)} must have one shape")
    scores = {"mse": _per_frame_mse(video, reconstruction)}
    if last is not None:
        scores["mse_repeat"] = _per_frame_mse(video, last.unsqueeze(1).expand_as(video))
    if true is not None and pred is not None:
        scores |= {"ari": _per_frame(ari, true, pred), "fg_ari": _per_frame(fg_ari, true, pred)}
    return scores


def running_mean(scores: Float64[Tensor, "B M"]) -> Float64[Tensor, "B M"]:
    """Mean over columns 1 to h, for every h; NaN is left out, and the mean of nothing is NaN."""
    return scores.nan_to_num(nan=0.0).cumsum(1) / (~scores.isnan()).cumsum(1)


def _per_frame_mse(video: Tensor, reconstruction: Tensor) -> Float64[Tensor, "B T"]:
    return mse(video.flatten(0, 1), reconstruction.flatten(0, 1)).view(video.shape[:2])


def _per_frame(function: Callable[[Tensor, Tensor], Tensor], true: Tensor, pred: Tensor) -> Float64[Tensor, "B T"]:
    check_videos(true, pred)
    return function(true.flatten(0, 1), pred.flatten(0, 1)).view(true.shape[:2])


def check_videos(true: Tensor, pred: Tensor) -> None:
    """Raise InputError unless both have the axes of label maps of videos."""
    for name, labels in (("true", true), ("pred", pred)):
        if labels.ndim != 4 or labels.shape != true.shape:
            raise InputError(
                f"{name} must be a label map (B, T, H, W) of the shape of true, got {tuple(labels.shape)}; "
                "give single images a T of 1"
            )
