"""ImageFolder: any folder of images, with or without a folder of masks."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from unscene.data.dataset import SceneDataset, collate
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

LOSSLESS = {".png", ".bmp", ".gif", ".tif", ".tiff"}  # a lossy mask would invent ids
IMAGES = LOSSLESS | {".jpg", ".jpeg", ".webp"}
SPLITS = {"train": range(0, 80), "val": range(80, 90), "test": range(90, 100)}  # percent of the names


class ImageFolder(SceneDataset):
    """The images below ``root`` (PNG, JPEG, WebP, BMP, GIF, TIFF) in natural order: img2 before img10.

    ``image`` (3, H, W), or (1, H, W) with ``grayscale``. ``mask`` (H, W) int64 from ``mask_root``, where each image
    has a lossless file of the same relative path, whatever the extensions: values of palette and gray
    files are the ids, colours of RGB files become ids per image: black 0, the others in order of
    their (red, green, blue).

    ``image_size``: (H, W), or one number for both; images are resized antialiased bilinear, masks to the
    nearest pixel. ``crop`` = "center" keeps the aspect ratio and cuts off what is too much, None stretches.
    Without ``image_size`` all images must have the same size.
    ``split``: the subfolder of ``root`` (and ``mask_root``) of that name if there is one, else 80 / 10 / 10 %
    train / val / test by a hash of each file's name: stable when files come or go; None all.
    ``paths`` lists the files.

    Raises InputError for missing or empty folders, differing sizes, unreadable files and images without a mask.
    """

    def __init__(
        self,
        root: str | Path,
        mask_root: str | Path | None = None,
        image_size: int | tuple[int, int] | None = None,
        crop: str | None = None,
        grayscale: bool = False,
        split: str | None = None,
    ) -> None:
        if crop not in (None, "center") or (crop and image_size is None):
            raise InputError(f"crop={crop!r} is not possible; use 'center' together with image_size, or None")
        self.grayscale, self.crop = grayscale, crop
        self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
        root, mask_root = Path(root), None if mask_root is None else Path(mask_root)
        if split is not None and (root / split).is_dir():
            root, mask_root, split = root / split, None if mask_root is None else mask_root / split, None
        self.paths = _split_by_name(_image_files(root, IMAGES), root, split)
        self.mask_paths = None if mask_root is None else _matching_masks(self.paths, root, mask_root)
        if self.image_size is None:
            _check_same_size(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Sequence[int]) -> Scenes:
        return collate([self._load(index) for index in indices])

    def _load(self, index: int) -> Scenes:
        path = self.paths[index]
        image = _to_rgb(_open(path), path)
        pixels = np.array(self._resize(image, Image.Resampling.BILINEAR))
        scene: Scenes = {"image": pixels_to_image(torch.from_numpy(pixels), self.grayscale)}
        if self.mask_paths is not None:
            mask = _open(self.mask_paths[index])
            if mask.size != image.size:
                sizes = f"is {_format(mask.size)} but image {path} is {_format(image.size)}"
                raise InputError(f"mask {self.mask_paths[index]} {sizes}; they must match pixel by pixel")
            scene["mask"] = torch.from_numpy(_to_label_map(self._resize(mask, Image.Resampling.NEAREST)))
        return scene

    def _resize(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        if self.image_size is None:
            return image
        height, width = self.image_size
        if self.crop == "center":
            return ImageOps.fit(image, (width, height), resample)
        return image.resize((width, height), resample)


def _image_files(root: Path, extensions: set[str]) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"image folder {root} does not exist")
    files = [path for path in root.rglob("*") if path.suffix.lower() in extensions and not path.name.startswith(".")]
    if not files:
        raise InputError(f"folder {root} has no images ({', '.join(sorted(extensions))}), not in subfolders either")
    return sorted(files, key=lambda path: _natural_key(path.relative_to(root).as_posix()))


def _natural_key(name: str) -> list[str | int]:
    """Text and numbers in turn, so that 2 comes before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _split_by_name(paths: list[Path], root: Path, split: str | None) -> list[Path]:
    if split is None:
        return paths
    if split not in SPLITS:
        raise InputError(f"folder {root} has no subfolder {split!r}; by name it splits into {', '.join(SPLITS)}")
    chosen = [p for p in paths if zlib.crc32(p.relative_to(root).as_posix().encode()) % 100 in SPLITS[split]]
    if not chosen:
        raise InputError(
            f"none of the {len(paths)} images in {root} fall into the {split!r} split; use split=None for all"
        )
    return chosen


def _matching_masks(paths: list[Path], root: Path, mask_root: Path) -> list[Path]:
    masks = {path.relative_to(mask_root).with_suffix(""): path for path in _image_files(mask_root, LOSSLESS)}
    stems = [path.relative_to(root).with_suffix("") for path in paths]
    missing = [stem for stem in stems if stem not in masks]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(stems)} images have no mask in {mask_root}, the first is {missing[0]}"
        )
    return [masks[stem] for stem in stems]


def _check_same_size(paths: list[Path]) -> None:
    first = _upright_size(paths[0])
    for path in paths[1:]:
        if (size := _upright_size(path)) != first:
            raise InputError(
                f"images have different sizes ({paths[0].name} is {_format(first)}, {path.name} {_format(size)}); "
                "set image_size to resize them"
            )


def _upright_size(path: Path) -> tuple[int, int]:
    """Width and height as `_open` would give, from the file's header alone."""
    with _naming(path), Image.open(path) as image:
        exif = Image.Image.getexif(image)  # the base class's, as PNG's own decodes the whole image first
        sideways = exif.get(ExifTags.Base.Orientation, 1) >= 5
        return image.size[::-1] if sideways else image.size


def _open(path: Path) -> Image.Image:
    """The image, the right way up according to its EXIF orientation."""
    with _naming(path), Image.open(path) as image:
        return ImageOps.exif_transpose(image)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise InputError(f"cannot read image {path}: {error}") from None


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise InputError(f"image {path} has more than 8 bits per channel (mode {image.mode}); save it with 8 bits")
    return image.convert("RGB")


def _to_label_map(mask: Image.Image) -> np.ndarray:
    """(H, W) int64 ids of a mask: its values if it has one channel, else its colours counted from black."""
    if len(mask.getbands()) == 1:
        return np.array(mask).astype(np.int64)
    colors = np.array(mask.convert("RGB")).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    present, ids = np.unique(colors, return_inverse=True)
    return ids.reshape(colors.shape) + int(present[0] != 0)


def _format(size: tuple[int, int]) -> str:
    width, height = size
    return f"{height} x {width}"
