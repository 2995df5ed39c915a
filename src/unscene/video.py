"""Any model on a video: one that follows objects takes it whole, a static one frame by frame.

What comes out frame by frame is kept by nobody here, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor

from unscene.errors import InputError
from unscene.models.base import SceneModel, VideoModel, stack_frames
from unscene.scenes import Decomposition


def follow(
    model: SceneModel, frames: Iterable[Float[Tensor, "B C H W"]], *, horizon: int = 0, **options: Any
) -> Iterator[tuple[Tensor | None, Decomposition]]:
    """Each frame with its Decomposition (B, K, ...); ``horizon`` predicted ones, whose frame is None, follow.

    A static model decomposes every frame by itself, so its slots have no identity across frames. ``options`` are
    those of the model's `decompose`. Raises InputError if a static model is to predict.
    """
    if horizon:
        check_predicts(model)
    if not isinstance(model, VideoModel):
        for frame in frames:
            yield frame, model.decompose(frame, **options)
        return
    waiting: deque[Tensor] = deque()  # one frame, or a few if the model looks ahead

    def taken() -> Iterator[Tensor]:
        for frame in frames:
            waiting.append(frame)
            yield frame

    for decomposition in model.stream(taken(), horizon=horizon, **options):
        yield waiting.popleft() if waiting else None, decomposition


def decompose_video(model: SceneModel, video: Float[Tensor, "B T C H W"], **options: Any) -> Decomposition:
    """Decompose videos into a Decomposition (B, T, K, ...), by a static model frame by frame."""
    return stack_frames(decomposition for _, decomposition in follow(model, video.unbind(1), **options))


def check_predicts(model: SceneModel) -> None:
    """Raise InputError unless the model can say how a video goes on."""
    if not isinstance(model, VideoModel):
        raise InputError(
            f"{type(model).__name__} decomposes single images and cannot predict; "
            "use a video model such as PROVIDE or RNEM"
        )


def check_span(observe: int, horizon: int) -> None:
    """Raise InputError unless there is a frame to observe and one to predict."""
    if observe < 1:
        raise InputError(f"observe is {observe}; the model needs at least 1 frame to start from")
    if horizon < 1:
        raise InputError(f"horizon is {horizon}; there must be at least 1 frame to predict")
