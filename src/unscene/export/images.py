"""Decompositions of image files as files.

Each image gets a folder of its own, OUT/NAME:

==================  ===========================================================================
labels.png          label map, the slot with the largest mask; 8-bit palette PNG, so the pixel
                    values are the slots' numbers and viewers show their colours
decomposition.npz   masks (K, H, W) and components (K, C, H, W) float16, slots (K, D) float32
overlay.png         the image seen through its label map
slot_K.png          what slot K paints, as opaque as its mask (RGBA)
panel.png           all of it in one picture
info.json           the image's path, how it was decomposed, and which sprite each slot shows, if the model
                    has sprites (-1: the background, or none)
==================  ===========================================================================
"""

from __future__ import annotations

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
from unscene.export.common import (
    check_folder,
    check_size,
    chosen_settings,
    fixed_size,
    folder_for,
    label_picture,
    undisturbed,
)
from unscene.figures import decomposition_panel, overlay
from unscene.figures.colours import to_rgba
from unscene.files import replacing
from unscene.models.base import SceneModel
from unscene.scenes import Decomposition


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
    settings = chosen_settings(model, num_slots=num_slots, iterations=iterations)
    image_size = fixed_size(model) if image_size is None else height_and_width(image_size)
    check_folder(out)
    return [_export(model, path, out, image_size, settings, seed) for path in paths]


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
    with undisturbed(model, path, seed) as device:
        decomposition = model.decompose(image.to(device), **settings)
    info = {"image": str(path.resolve()), "method": type(model).__name__, "seed": seed, **settings}
    if decomposition.sprite_ids is not None:
        info["sprites"] = decomposition.sprite_ids[0].tolist()
    folder = folder_for(info, "image", path.stem, out)
    with replacing(folder) as draft:
        draft.mkdir()
        _write(draft, image, decomposition, info)
    return folder


def _check_not_too_large(path: Path) -> None:
    width, height = upright_size(path)
    check_size(path, height, width)


def _write(folder: Path, image: Float[Tensor, "1 C H W"], decomposition: Decomposition, info: dict) -> None:
    masks, components = decomposition.masks[0].cpu(), decomposition.components[0].cpu()
    labels = decomposition.segmentation[0].cpu()
    label_picture(labels.numpy().astype(np.uint8)).save(folder / "labels.png")
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
