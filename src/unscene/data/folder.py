"""ImageFolder: any folder of images, with or without a folder of masks."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unscene.data.dataset import SceneDataset, collate
from unscene.data.images import (
    LOSSLESS,
    check_crop,
    fitted,
    height_and_width,
    list_images,
    open_rgb,
    open_upright,
    upright_size,
)
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

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
    ``split``: the subfolder of ``root`` (and ``mask_root``) of that name; where there is neither train, val nor
    test, 80 / 10 / 10 % by a hash of each file's name: stable when files come or go; None all.
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
        check_crop(crop, image_size)
        self.grayscale, self.crop = grayscale, crop
        self.image_size = None if image_size is None else height_and_width(image_size)
        self.root = root = Path(root)
        mask_root = None if mask_root is None else Path(mask_root)
        if split is not None and (root / split).is_dir():
            root, mask_root, split = root / split, None if mask_root is None else mask_root / split, None
        self.paths = (
            list_images(root) if split is None else choose_split(split_files(root, list_images), split, root, "images")
        )
        self.mask_paths = None if mask_root is None else _matching_masks(self.paths, root, mask_root)
        if self.image_size is None:
            check_same_size(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(paths) for split, paths in split_files(self.root, list_images).items() if paths}

    def batch(self, indices: Sequence[int]) -> Scenes:
        return collate([self._load(index) for index in indices])

    def _load(self, index: int) -> Scenes:
        path = self.paths[index]
        image = open_rgb(path)
        pixels = np.array(self._resize(image, Image.Resampling.BILINEAR))
        scene: Scenes = {"image": pixels_to_image(torch.from_numpy(pixels), self.grayscale)}
        if self.mask_paths is not None:
            mask = open_upright(self.mask_paths[index])
            if mask.size != image.size:
                sizes = f"is {_format(mask.size)} but image {path} is {_format(image.size)}"
                raise InputError(f"mask {self.mask_paths[index]} {sizes}; they must match pixel by pixel")
            scene["mask"] = torch.from_numpy(_to_label_map(self._resize(mask, Image.Resampling.NEAREST)))
        return scene

    def _resize(self, image: Image.Image, resample: Image.Resampling) -> Image.Image:
        return fitted(image, self.image_size, self.crop, resample)


def split_files(root: Path, list_files: Callable[[Path], list[Path]]) -> dict[str, list[Path]]:
    """The files of every split: in the subfolders of these names if there is any of them, else parts by name."""
    folders = [root / name for name in SPLITS if (root / name).is_dir()]
    if folders:
        return {folder.name: list_files(folder) for folder in folders}
    paths = list_files(root)
    percents = [zlib.crc32(path.relative_to(root).as_posix().encode()) % 100 for path in paths]
    return {
        split: [path for path, percent in zip(paths, percents, strict=True) if percent in part]
        for split, part in SPLITS.items()
    }


def choose_split(splits: dict[str, list[Path]], split: str, root: Path, kind: str) -> list[Path]:
    """The files of one split; ``kind`` is what to call them in complaints."""
    if split not in splits:
        known = "by name it splits into" if splits.keys() == SPLITS.keys() else "its splits are"
        raise InputError(f"folder {root} has no subfolder {split!r}; {known} {', '.join(splits)}")
    if not splits[split]:
        total = sum(map(len, splits.values()))
        raise InputError(
            f"none of the {total} {kind} in {root} fall into the {split!r} split; use split=None (--split null) for all"
        )
    return splits[split]


def _matching_masks(paths: list[Path], root: Path, mask_root: Path) -> list[Path]:
    masks = {path.relative_to(mask_root).with_suffix(""): path for path in list_images(mask_root, LOSSLESS)}
    stems = [path.relative_to(root).with_suffix("") for path in paths]
    missing = [stem for stem in stems if stem not in masks]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(stems)} images have no mask in {mask_root}, the first is {missing[0]}"
        )
    return [masks[stem] for stem in stems]


def check_same_size(paths: list[Path]) -> None:
    """Raise InputError unless all images have one size."""
    first = upright_size(paths[0])
    for path in paths[1:]:
        if (size := upright_size(path)) != first:
            raise InputError(
                f"images have different sizes ({paths[0].name} is {_format(first)}, {path.name} {_format(size)}); "
                "set image_size to resize them"
            )


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
