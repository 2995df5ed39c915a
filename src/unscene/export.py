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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unscene.data.images import center_crop, height_and_width, list_images, open_rgb, upright_size
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.figures import decomposition_panel, overlay, palette
from unscene.figures.colours import to_rgba
from unscene.files import replacing
from unscene.models.base import SceneModel
from unscene.scenes import Decomposition

MAX_SLOTS = 256  # that labels.png can tell apart
MAX_PIXELS = 256 * 256  # of an image that is decomposed as it is; a photo of a camera would take many GB of memory


def export_decompositions(
    model: SceneModel,
    image_paths: Sequence[str | Path],
    out: str | Path,
    *,
    image_size: int | Sequence[int] | None = None,
    num_slots: int | None = None,
    iterations: int | None = None,
    seed: int = 0,
) -> list[Path]:
    """Decompose image files, and all images of folders among them, into folders under ``out``; return these.

    Images become gray or RGB as the model wants. They come to ``image_size`` (`read_image`), by default the size that
    the model fixes (`fixed_size`), else they keep their own. The noise of every image starts from ``seed``, so its
    result depends on no other image. A folder appears complete or not at all; doing an image again replaces its
    folder, and another image of the same name gets a new one (NAME-2, ...). What is in ``out`` is not looked at.

    Raises InputError for a missing or unreadable image, a folder without images, an image of more than 256 x 256
    pixels that keeps its size, and whatever the model refuses.
    """
    out = Path(out)
    paths = _find_images(image_paths, out)
    settings = {"num_slots": num_slots, "iterations": iterations}
    settings = {name: value for name, value in settings.items() if value is not None}
    _check_settings(model, settings)
    image_size = fixed_size(model) if image_size is None else height_and_width(image_size)
    if out.exists() and not out.is_dir():
        raise InputError(f"cannot write to {out}: it is a file; name a folder")
    return [_export(model, path, out, image_size, settings, seed) for path in paths]


def fixed_size(model: SceneModel) -> tuple[int, int] | None:
    """(H, W) if the model takes images of that size only."""
    size = getattr(model, "image_size", None)
    return None if size is None else height_and_width(size)


def read_image(path: Path, channels: int, image_size: int | Sequence[int] | None = None) -> Float[Tensor, "C H W"]:
    """Read an image in [0, 1] as gray (``channels`` 1) or RGB, upright.

    ``image_size``: one number, or (H, W); the image is resized to it, and what is too much in height or width is
    cut off on both sides, as the recipe iodine/own does.
    """
    picture = open_rgb(path)
    if image_size is not None:
        picture = center_crop(picture, height_and_width(image_size), Image.Resampling.BILINEAR)
    return pixels_to_image(torch.from_numpy(np.array(picture)), channels == 1)


def _find_images(paths: Sequence[str | Path], out: Path) -> list[Path]:
    """Image files among ``paths``, each folder replaced by what `list_images` finds in it outside of ``out``."""
    if not paths:
        raise InputError("no images given; name image files or folders of images")
    files: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found = list_images(path)
            files |= dict.fromkeys(file for file in found if out.resolve() not in file.resolve().parents)
        elif path.is_file():
            files[path] = None
        else:
            raise InputError(f"image {path} does not exist; check the path")
    return list(files)


def _check_settings(model: SceneModel, settings: dict[str, int]) -> None:
    known = inspect.signature(model.decompose).parameters
    for name in settings:
        if name not in known:
            raise InputError(f"{type(model).__name__} does not take {name}; leave it out")
    num_slots = settings.get("num_slots", getattr(model, "num_slots", 1))
    if num_slots > MAX_SLOTS:
        raise InputError(f"num_slots is {num_slots}; labels.png can tell {MAX_SLOTS} slots apart, ask for fewer")


def _export(
    model: SceneModel,
    path: Path,
    out: Path,
    image_size: tuple[int, int] | None,
    settings: dict[str, int],
    seed: int,
) -> Path:
    if image_size is None:
        _check_not_too_large(path)
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
    with replacing(folder) as draft:
        draft.mkdir()
        _write(draft, image, decomposition, info)
    return folder


def _check_not_too_large(path: Path) -> None:
    width, height = upright_size(path)
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{path} has {height} x {width} pixels, and decomposing so many takes many GB of memory; "
            "give --image_size (image_size=), best the size of the training images"
        )


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
