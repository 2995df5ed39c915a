"""Image files: which of a folder count, how they are opened, and how they come to a size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from unscene.errors import InputError

LOSSLESS = {".png", ".bmp", ".gif", ".tif", ".tiff"}  # a lossy mask would invent ids
IMAGES = LOSSLESS | {".jpg", ".jpeg", ".webp"}


def list_images(root: Path, extensions: set[str] = IMAGES) -> list[Path]:
    """The images below the folder ``root`` in natural order, img2 before img10; nothing hidden.

    Raises InputError if there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise InputError(f"image folder {root} does not exist")
    names = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in extensions]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not names:
        raise InputError(f"folder {root} has no images ({', '.join(sorted(extensions))}), not in subfolders either")
    return [root / name for name in sorted(names, key=lambda name: natural_key(name.as_posix()))]


def natural_key(name: str) -> list[str | int]:
    """Text and numbers in turn, so that 2 comes before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def open_upright(path: Path) -> Image.Image:
    """The image as stored, but the right way up according to its EXIF orientation."""
    with _naming(path), Image.open(path) as image:
        return ImageOps.exif_transpose(image)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height as `open_upright` would give, from the file's header alone."""
    with _naming(path), Image.open(path) as image:
        exif = Image.Image.getexif(image)  # the base class's, as PNG's own decodes the whole image first
        sideways = exif.get(ExifTags.Base.Orientation, 1) >= 5
        return image.size[::-1] if sideways else image.size


def open_rgb(path: Path) -> Image.Image:
    """The image upright, in RGB of 8 bits; those of 16 bits per pixel keep their range."""
    image = open_upright(path)
    if image.mode == "F":
        raise InputError(f"cannot read image {path}: its pixels are floating-point numbers; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    return image.convert("RGB")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise InputError(f"cannot read image {path}: {error}; convert it to PNG or JPEG") from error


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """(H, W) of one number for both, or of two; InputError for anything else."""
    sizes = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise InputError(f"image_size is {image_size!r}; give one number of pixels, or height and width, at least 1")
    return sizes


def center_crop(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """Resized to (H, W) = ``size``; the aspect ratio stays, what is too much is cut off on both sides."""
    return ImageOps.fit(image, size[::-1], resample)


def fitted(
    picture: Image.Image,
    size: tuple[int, int] | None,
    crop: str | None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """A picture at (H, W) = ``size``: its centre with ``crop``, else stretched; as it is without a size."""
    if size is None:
        return picture
    return center_crop(picture, size, resample) if crop else picture.resize(size[::-1], resample)


def check_crop(crop: str | None, image_size: int | Sequence[int] | None) -> None:
    """Raise InputError unless ``crop`` is "center", for a size that is given, or None."""
    if crop not in (None, "center") or (crop and image_size is None):
        raise InputError(f"crop={crop!r} is not possible; use 'center' together with image_size, or None")
