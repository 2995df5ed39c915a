"""What images and videos have in common when they are decomposed into files."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from unscene.data.images import height_and_width
from unscene.errors import InputError
from unscene.figures import palette
from unscene.models.base import SceneModel
from unscene.noise import own_noise

MAX_SLOTS = 256  # that a label map of 8 bits can tell apart
MAX_PIXELS = 256 * 256  # of an image that is decomposed as it is; a photo of a camera would take many GB of memory


def fixed_size(model: SceneModel) -> tuple[int, int] | None:
    """(H, W) if the model takes images of that size only."""
    size = getattr(model, "image_size", None)
    return None if size is None else height_and_width(size)


def chosen_settings(model: SceneModel, **settings: int | None) -> dict[str, int]:
    """Those that are not None; InputError unless the model's `decompose` takes them and its slots fit 8 bits."""
    settings = {name: value for name, value in settings.items() if value is not None}
    known = inspect.signature(model.decompose).parameters
    for name in settings:
        if name not in known:
            raise InputError(f"{type(model).__name__} does not take {name}; leave it out")
    num_slots = settings.get("num_slots", getattr(model, "num_slots", 1))
    if num_slots > MAX_SLOTS:
        raise InputError(f"num_slots is {num_slots}; label maps can tell {MAX_SLOTS} slots apart, ask for fewer")
    return settings


@contextmanager
def undisturbed(model: SceneModel, path: Path, seed: int) -> Iterator[torch.device]:
    """The model's device, noise that starts from ``seed``, and complaints of the model that name the file."""
    device = next(model.parameters()).device
    with own_noise(seed, device):
        try:
            yield device
        except InputError as error:
            if str(path) in str(error):
                raise
            raise InputError(f"{path}: {error}") from error


def label_picture(labels: UInt8[ndarray, "H W"]) -> Image.Image:
    """A palette picture whose pixel values are the labels, in the slots' colours for viewers."""
    picture = Image.fromarray(labels)
    picture.putpalette(palette(256).tobytes())
    return picture


def check_size(path: Path, height: int, width: int) -> None:
    """Raise InputError if a picture that keeps its size has too many pixels."""
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{path} has {height} x {width} pixels, and decomposing so many takes many GB of memory; "
            "give --image_size (image_size=), best the size of the training images"
        )


def check_folder(out: Path) -> None:
    """Raise InputError if ``out`` is a file."""
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write to {out}: it is a file; name a folder")


def folder_for(info: dict[str, Any], key: str, stem: str, out: Path) -> Path:
    """OUT/STEM, or the first OUT/STEM-n that is free or whose info.json has the same ``info[key]``, the source."""
    number, folder = 1, out / stem
    while folder.exists() and _info_of(folder).get(key) != info[key]:
        number += 1
        folder = out / f"{stem}-{number}"
    return folder


def _info_of(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / "info.json").read_text())
    except (OSError, ValueError):  # not a folder of ours
        return {}
    return info if isinstance(info, dict) else {}
