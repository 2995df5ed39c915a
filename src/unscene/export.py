"""Decompositions of image files as files: what `unscene decompose` writes.

Each image gets a folder of its own, OUT/NAME:

==================  ===========================================================================
labels.png          label map, the slot with the largest mask; 8-bit palette PNG, so the pixel
                    values are the slots' numbers and viewers show their colours
decomposition.npz   masks (K, H, W) and components (K, C, H, W) float16, slots (K, D) float32
overlay.png         the image seen through its label map
slot_K.png          what slot K paints, as opaque as its mask (RGBA)
panel.png           all of it in one picture
info.json           the image's path and how it was decomposed
==================  ===========================================================================
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from unscene.data.folder import IMAGES
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.figures import decomposition_panel, overlay, palette
from unscene.figures.colours import to_rgba
from unscene.models.base import SceneModel
from unscene.scenes import Decomposition


def export_decompositions(
    model: SceneModel,
    image_paths: Sequence[str | Path],
    out: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    num_slots: int | None = None,
    iterations: int | None = None,
    seed: int = 0,
) -> list[Path]:
    """Decompose image files, and all images of folders among them, into folders under ``out``; return these.

    Images become gray or RGB as the model wants, and (H, W) = ``image_size`` if given. The noise of every image
    starts from ``seed``, so its result depends on no other image. A folder appears complete or not at all; doing
    an image again replaces its folder, and another image of the same name gets a new one (NAME-2, ...).

    Raises InputError for a missing or unreadable image, a folder without images, and whatever the model refuses.
    """
    paths, out = list_images(image_paths), Path(out)
    settings = {"num_slots": num_slots, "iterations": iterations}
    settings = {name: value for name, value in settings.items() if value is not None}
    _check_settings(model, settings)
    if image_size is not None and min(image_size) < 1:
        raise InputError(f"image_size is {image_size}; height and width must be at least 1")
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write to {out}: it is a file; name a folder")
    return [_export(model, path, out, image_size, settings, seed) for path in paths]


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """Image files among ``paths``, each folder replaced by the images in it, in order and without repetition."""
    if not paths:
        raise InputError("no images given; name image files or folders of images")
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
            if not inside:
                raise InputError(f"no images in folder {path}; looked for {', '.join(sorted(IMAGES))}")
            files |= dict.fromkeys(inside)
        elif path.is_file():
            files[path] = None
        else:
            raise InputError(f"image {path} does not exist; check the path")
    return list(files)


def read_image(path: Path, channels: int, image_size: tuple[int, int] | None = None) -> Float[Tensor, "C H W"]:
    """Read an image in [0, 1] as gray (``channels`` 1) or RGB, upright, resized to (H, W) = ``image_size`` if given."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read image {path}: {error}; convert it to PNG or JPEG") from error
    if picture.mode == "F":
        raise InputError(f"cannot read image {path}: its pixels are floating-point numbers; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip to 8
        picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
    picture = picture.convert("RGB")
    if image_size is not None:
        picture = picture.resize(image_size[::-1], Image.Resampling.BILINEAR)
    return pixels_to_image(torch.from_numpy(np.array(picture)), channels == 1)


def _check_settings(model: SceneModel, settings: dict[str, int]) -> None:
    known = inspect.signature(model.decompose).parameters
    for name in settings:
        if name not in known:
            raise InputError(f"{type(model).__name__} does not take {name}; leave it out")


def _export(
    model: SceneModel,
    path: Path,
    out: Path,
    image_size: tuple[int, int] | None,
    settings: dict[str, int],
    seed: int,
) -> Path:
    image = read_image(path, getattr(model, "image_channels", 3), image_size)[None]
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            decomposition = model.decompose(image.to(device), **settings)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    info = {"image": str(path.resolve()), "method": type(model).__name__, "seed": seed, **settings}
    folder = _folder_for(info["image"], path.stem, out)
    draft = out / f".{folder.name}.{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        _write(draft, image, decomposition, info)
        _replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _folder_for(source: str, stem: str, out: Path) -> Path:
    """OUT/STEM, or the first OUT/STEM-n that is free or already holds this very image."""
    number, folder = 1, out / stem
    while folder.exists() and _source_of(folder) != source:
        number += 1
        folder = out / f"{stem}-{number}"
    return folder


def _source_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / "info.json").read_text())["image"]
    except (OSError, ValueError, LookupError, TypeError):  # not a folder of ours
        return None


def _write(folder: Path, image: Float[Tensor, "1 C H W"], decomposition: Decomposition, info: dict) -> None:
    masks, components = decomposition.masks[0].cpu(), decomposition.components[0].cpu()
    labels = decomposition.segmentation[0].cpu()
    picture = Image.fromarray(labels.numpy().astype(np.uint8))
    picture.putpalette(palette(256).tobytes())
    picture.save(folder / "labels.png")
    np.savez_compressed(
        folder / "decomposition.npz",
        masks=masks.half().numpy(),
        components=components.half().numpy(),
        slots=decomposition.slots[0].float().cpu().numpy(),
    )
    Image.fromarray(overlay(image[0], labels)).save(folder / "overlay.png")
    for k, pixels in enumerate(to_rgba(components, masks)):
        Image.fromarray(pixels).save(folder / f"slot_{k}.png")
    decomposition_panel(image, decomposition).savefig(folder / "panel.png")
    (folder / "info.json").write_text(json.dumps(info, indent=2) + "\n")


def _replace(draft: Path, folder: Path) -> None:
    """Move a finished folder to its place; a folder cannot be renamed onto a full one, so that steps aside first."""
    old = draft.with_name(draft.name + ".old")
    if folder.exists():
        folder.replace(old)
    draft.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
