"""`unscene decompose` and `unscene predict`: the model, and which of the inputs are images, which are videos."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unscene.export import export_decompositions, export_video, fixed_size, is_video
from unscene.models.base import SceneModel
from unscene.pretrained import load
from unscene.progress import progress


def load_for_files(weights: str, image_size: int | tuple[int, int] | None, device: str) -> SceneModel:
    """The model on its device; if it fixes the size of images, and the user did not, it says so."""
    model = load(weights)
    if image_size is None and (size := fixed_size(model)):
        print(f"images are resized and cropped to {size[0]} x {size[1]}, all that this model takes", file=sys.stderr)
    return model.to(device)


def decompose_files(
    model: SceneModel,
    inputs: Sequence[str],
    out: Path,
    *,
    folders_are_videos: bool,
    fps: float | None,
    options: dict[str, Any],
) -> None:
    """Decompose images, then videos, and print the folder of each."""
    videos = [path for path in inputs if is_video(path, model, folders_are_videos)]
    images = [path for path in inputs if path not in videos]
    if images:
        for folder in export_decompositions(model, images, out, **options):
            print(folder)
    for path in videos:
        print(export_video(model, path, out, fps=fps, progress=partial(progress, path), **options))
