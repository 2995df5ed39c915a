"""How a model thinks that a video goes on, as files beside what happened.

A video gets a folder of its own, OUT/NAME:

==================  ===========================================================================
film.mp4, film.gif  the real video, the model's and its segmentation side by side; predicted pictures
                    are framed in orange, and where the real video has ended it is gray
filmstrip.png       frames from left to right, a line where prediction starts
prediction.npz      of the predicted frames: reconstruction (M, C, H, W) float16, labels (M, H, W) uint8,
                    slots (M, K, D) float32; and real (up to M, C, H, W) float16
errors.json         mse at each horizon and on average up to it, null where the real video has ended
errors.png          the same as a curve, if there is any real frame to compare with
info.json           the video's path and how it was predicted
==================  ===========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from unscene.errors import InputError
from unscene.evaluation.result import by_horizon
from unscene.export.common import check_folder, chosen_settings, folder_for, undisturbed
from unscene.export.film import Films
from unscene.export.video import frame_rate, open_frames, side_by_side
from unscene.figures import colour_labels, filmstrip, horizon_curves, palette
from unscene.figures.colours import to_rgb
from unscene.files import replacing
from unscene.metrics import horizon_errors
from unscene.models.base import SceneModel, stack_frames
from unscene.scenes import Decomposition
from unscene.video import check_predicts, check_span, follow

GONE = 128  # gray of frames that the real video does not have


@dataclass(frozen=True)
class Prediction:
    """A video (T, C, H, W) as far as it is known, and what the model makes of it and of ``horizon`` more frames."""

    video: Float[Tensor, "T C H W"]
    decomposition: Decomposition  # (observe + horizon, K, ...)
    observe: int

    def errors(self) -> dict[str, np.ndarray]:
        """Of the predicted frames (1, horizon), NaN where there is no real one; see `horizon_errors`."""
        last, real = self.video[self.observe - 1], self.video[self.observe :]
        unknown = len(self.decomposition.masks) - len(self.video)
        predicted = self.decomposition.reconstruction[self.observe :][: len(real)]
        errors = horizon_errors(real[None], predicted[None], last=last[None])
        return {name: np.pad(values, [(0, 0), (0, unknown)], constant_values=np.nan) for name, values in errors.items()}


def export_prediction(
    model: SceneModel,
    path: str | Path,
    out: str | Path,
    *,
    observe: int = 20,
    horizon: int = 10,
    image_size: int | Sequence[int] | None = None,
    num_slots: int | None = None,
    fps: int | float | None = None,
    seed: int = 0,
) -> Path:
    """Show a model the first ``observe`` frames of a video and write the ``horizon`` that it predicts; return where.

    The folder under ``out`` appears complete or not at all; the other options are those of `export_video`.
    Raises InputError for a model that cannot predict, ``horizon`` below 1, and a video shorter than ``observe``.
    """
    path, out = Path(path), Path(out)
    check_span(observe, horizon)
    check_predicts(model)
    settings = chosen_settings(model, num_slots=num_slots)
    check_folder(out)
    frames, fps = open_frames(model, path, image_size), frame_rate(path, fps)
    frames = list(islice(frames, observe + horizon))
    if len(frames) < observe:
        raise InputError(f"{path} has {len(frames)} frames, fewer than the {observe} to observe; lower observe")
    with undisturbed(model, path, seed):
        said = stack_frames(step for _, step in follow(model, frames[:observe], horizon=horizon, **settings))
    prediction = Prediction(torch.cat(frames).cpu(), _first(said), observe)
    info = {"predicted_video": str(path.resolve()), "method": type(model).__name__, "observe": observe}
    info |= {"horizon": horizon, "known": len(frames) - observe, "fps": fps, "seed": seed, **settings}
    folder = folder_for(info, "predicted_video", path.resolve().stem, out)
    with replacing(folder) as draft:
        draft.mkdir()
        _write(draft, prediction, fps, info)
    return folder


def _first(decomposition: Decomposition) -> Decomposition:
    """The first video of a batch, on the CPU, with what is drawn and stored."""
    fields = (decomposition.masks, decomposition.components, decomposition.slots)
    return Decomposition(*(field[0].float().cpu() for field in fields))


def _write(folder: Path, prediction: Prediction, fps: float, info: dict) -> None:
    video, decomposition, observe = prediction.video, prediction.decomposition, prediction.observe
    with Films(folder, fps) as films:
        for picture in _pictures(prediction):
            films.write("film.mp4", picture)
            films.write("film.gif", picture)
    filmstrip(video, decomposition, observed=observe).savefig(folder / "filmstrip.png", facecolor="white")
    np.savez_compressed(
        folder / "prediction.npz",
        reconstruction=decomposition.reconstruction[observe:].half().numpy(),
        labels=decomposition.segmentation[observe:].numpy().astype(np.uint8),
        slots=decomposition.slots[observe:].numpy(),
        real=video[observe:].half().numpy(),
    )
    errors = prediction.errors()
    if np.isfinite(errors["mse"]).any():
        horizon_curves(errors).savefig(folder / "errors.png", facecolor="white")
    for name, content in (("errors.json", by_horizon(errors)), ("info.json", info)):
        (folder / name).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def _pictures(prediction: Prediction) -> list[UInt8[np.ndarray, "H W 3"]]:
    """The film: real, predicted, segmentation."""
    real, said = to_rgb(prediction.video), to_rgb(prediction.decomposition.reconstruction)
    labels = colour_labels(prediction.decomposition.segmentation)
    gone = np.full_like(said[: len(said) - len(real)], GONE)
    return [
        side_by_side(pictures, palette(2)[1] if t >= prediction.observe else None)
        for t, pictures in enumerate(zip(np.concatenate([real, gone]), said, labels, strict=True))
    ]
