"""Label maps for CLEVRER, which was released without masks: from detections, or from videos of flat colours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unscene.data.videos import iterate_pictures
from unscene.errors import InputError

Kind = tuple[str, str, str]  # color, material, shape: in CLEVRER no two objects of a video have the same

COLOR_STEP = 16  # levels of a channel that count as one colour; compression spreads flat colours by a few
COLOR_DISTANCE = 60.0  # dominant colours differ by more, in levels
COLOR_SHARE = 1e-3  # of the pixels of a clip; each blend at outlines has less
# (4096, 3): the colours that are told apart, by 16 levels in each of red, green and blue
LEVELS = COLOR_STEP * (np.indices((16, 16, 16)).reshape(3, -1).T + 0.5)


def decode_rle(size: Sequence[int], counts: str | bytes | Sequence[int]) -> np.ndarray:
    """Mask (H, W) bool of COCO's run-length code: runs of 0 and 1 in turn, down the columns.

    ``counts`` are the runs, or the string into which pycocotools compresses them.
    Raises InputError if the runs do not add up to H W.
    """
    runs = _runs(counts.encode() if isinstance(counts, str) else counts)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise InputError(f"a run-length coded mask of {size[0]} x {size[1]} has runs of {runs.sum()} pixels in total")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0]).T


def _runs(counts: bytes | Sequence[int]) -> np.ndarray:
    """Of a string: 5 bits per character, lowest first; 32 says that more follow, the last one's 16 is the sign.

    From the fourth run on, the difference to the run two before is stored.
    """
    if not isinstance(counts, bytes):
        return np.array(counts, dtype=np.int64)
    digits = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits & 32 == 0)
    if not len(digits) or last.size == 0 or last[-1] != len(digits) - 1:
        raise InputError("a run-length coded mask ends in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(first, last - first + 1)
    runs = np.add.reduceat((digits & 31) << (5 * place), first)
    runs -= np.where(digits[last] & 16, np.int64(1) << (5 * (last - first + 1)), 0)
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs


def read_detections(path: Path, kinds: Sequence[Kind], frames: range) -> np.ndarray:
    """Label maps (T, H, W) uint8 of a file of detections, id i being the object ``kinds[i - 1]``.

    Detections of no such object are left out; of several of one object in a frame the first is taken, and a pixel
    of several objects belongs to the one named first. These are predictions of a network, not the truth.
    """
    with path.open() as file:
        listed = {frame["frame_index"]: frame["objects"] for frame in json.load(file)["frames"]}
    missing = [t for t in frames if t not in listed]
    if missing:
        raise InputError(f"{path} has no frame {missing[0]}; use other frames, or leave that video out")
    return np.stack([_paint(listed[t], kinds, path) for t in frames])


def _paint(objects: list[dict[str, Any]], kinds: Sequence[Kind], path: Path) -> np.ndarray:
    mask = None
    for detection in reversed(_first_of_each(objects)):
        kind = _kind(detection)
        if kind not in kinds:
            continue
        inside = decode_rle(**{name: detection["mask"][name] for name in ("size", "counts")})
        mask = np.zeros(inside.shape, np.uint8) if mask is None else mask
        if mask.shape != inside.shape:
            raise InputError(f"{path} has masks of {mask.shape} and {inside.shape} pixels in the same frame")
        mask[inside] = list(kinds).index(kind) + 1
    return np.zeros((320, 480), np.uint8) if mask is None else mask


def _first_of_each(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({_kind(detection): detection for detection in reversed(objects)}.values())[::-1]


def _kind(detection: dict[str, Any]) -> Kind:
    return detection["color"], detection["material"], detection["shape"]


def read_colors(path: Path) -> np.ndarray:
    """Label maps (T, H, W) uint8 of a video with objects in flat colours on black.

    Every pixel belongs to the nearest of the dominant colours of the video. Black is 0, the others count up in the
    order of how many pixels they have: nothing tells which object of the annotation they are.
    """
    codes = np.stack([_code(np.asarray(picture)) for picture in iterate_pictures(path)])
    share = np.bincount(codes.ravel(), minlength=len(LEVELS)) / codes.size
    colors = [np.zeros(3)]
    for code in np.argsort(-share, kind="stable")[: (share >= COLOR_SHARE).sum()]:
        if min(np.linalg.norm(LEVELS[code] - color) for color in colors) > COLOR_DISTANCE:
            colors.append(LEVELS[code])
    nearest = np.linalg.norm(LEVELS[:, None] - np.array(colors), axis=-1).argmin(1)
    return nearest.astype(np.uint8)[codes]


def _code(pixels: np.ndarray) -> np.ndarray:
    """(H, W) the position in LEVELS of each pixel (H, W, 3)."""
    return (pixels // COLOR_STEP).astype(np.int16) @ np.array([256, 16, 1], dtype=np.int16)
