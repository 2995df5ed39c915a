"""Contact sheet of a dataset: what is in it, at a glance."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.figures.colours import colour_labels, to_rgb
from unscene.figures.grid import Tile, image_grid
from unscene.scenes import Scenes

COLUMNS, FRAMES = 8, 8  # samples in a row; frames shown of a video, which takes a row of its own


def contact_sheet(dataset: Dataset, count: int = 16) -> Figure:
    """The first ``count`` scenes with their masks beneath, under a line of counts; videos and views in a row each."""
    if len(dataset) == 0:
        raise InputError("the dataset is empty; there is nothing to show")
    if count < 1:
        raise InputError(f"count is {count}; a contact sheet shows at least 1 scene")
    scenes = [dataset[i] for i in range(min(count, len(dataset)))]
    columns = COLUMNS if scenes[0]["image"].ndim == 3 else 1
    rows = []
    for start in range(0, len(scenes), columns):
        group = scenes[start : start + columns]
        rows.append([Tile(_strip(to_rgb(scene["image"]))) for scene in group])
        if "mask" in group[0]:
            rows.append([Tile(_strip(colour_labels(scene["mask"]))) for scene in group])
    return image_grid(rows, title=_summary(dataset, scenes))


def _strip(pixels: np.ndarray) -> np.ndarray:
    """Lay the frames of a video (T, H, W, 3) side by side, a white line between them; an image stays as it is."""
    if pixels.ndim == 3:
        return pixels
    shown = np.linspace(0, len(pixels) - 1, min(FRAMES, len(pixels))).round().astype(int)  # from the first to the last
    frames = np.pad(pixels[shown], ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255)
    return np.concatenate(list(frames), axis=1)[:, :-1]


def _summary(dataset: Dataset, scenes: list[Scenes]) -> str:
    """Such as: Tetrominoes, 60,000 scenes of 35 x 35 RGB, 3 objects."""
    *leading, channels, height, width = scenes[0]["image"].shape
    frames = f"{leading[0]} {'views' if 'viewpoint' in scenes[0] else 'frames'} of " if leading else ""
    size = f"{height} x {width} {'gray' if channels == 1 else 'RGB'}"
    text = f"{type(dataset).__name__}, {_count(len(dataset), 'scene')} of {frames}{size}"
    if "mask" not in scenes[0]:
        return f"{text}, no masks"
    counts = [int((scene["mask"].unique() > 0).sum()) for scene in scenes]
    low, high = min(counts), max(counts)
    objects = _count(low, "object") if low == high else f"{low} to {high} objects"
    return f"{text}, {objects} in those shown"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
