"""SpriteFolder: the layout of DTI-Sprites' data, images with masks of instances and of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unscene.data.clips import visible_ids
from unscene.data.dataset import SceneDataset, collate
from unscene.data.images import list_images, open_rgb, open_upright, upright_size
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.progress import progress
from unscene.scenes import Scenes

IMAGES, MASKS, CLASSES = "images", "masks", "sem_masks"
SPLITS = ("train", "val", "test")
NUM_TEST = 320  # images that DTI-Sprites evaluates on
SHOWN_EVERY = 1000  # masks


class SpriteFolder(SceneDataset):
    """``root``/images/NAME.png with ``root``/masks/NAME.png and, if that folder is there, ``root``/sem_masks/NAME.png.

    ``image`` (3, H, W); (1, H, W) of gray files or with ``grayscale``. ``mask`` (H, W) uint8, ids as stored, 0 the
    background. ``visibility`` (N,): whether the id occurs. ``factors``: ``class`` (N,) int64 from sem_masks, 0 for the
    background and for ids that do not occur. N is 1 + ``max_id``, the largest id of any mask; None looks through all of
    them first, which takes seconds (60,000 of 64 x 64: about 10).

    ``split``: the subfolder of ``root`` of that name, with the three folders in it. Where there is neither train, val
    nor test, in natural order: "test" is the first 320 images, "val" the next 320, "train" all, as DTI-Sprites
    (Monnier et al., 2021) has no held-out images, or with ``holdout`` all but these 640; None all.

    Raises InputError for missing or empty folders, images without masks, an empty split and, when read, for unreadable
    files, differing sizes, ids above ``max_id`` and objects of no class or of several.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        max_id: int | None = None,
        holdout: bool = False,
        grayscale: bool = False,
    ) -> None:
        self.root, self.grayscale, self._holdout = Path(root), grayscale, holdout
        folder = _split_folder(self.root, split)
        names = _list_names(folder)
        self.has_classes = (folder / CLASSES).is_dir()
        for kind in (MASKS, CLASSES) if self.has_classes else (MASKS,):
            _check_paired(names, folder, kind)
        if max_id is not None and max_id < 1:
            raise InputError(f"max_id is {max_id}; it is the largest id of an object, at least 1")
        self.max_id = _largest_id([folder / MASKS / name for name in names]) if max_id is None else max_id
        chosen = names[_part(len(names), split, holdout)] if folder == self.root else names
        if not chosen:
            raise InputError(f"the {len(names)} images of {folder} are too few for a split {split!r}; use split=None")
        self.paths = [folder / IMAGES / name for name in chosen]
        self.size = upright_size(self.paths[0])  # width and height of all

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def splits(self) -> dict[str, int]:
        if folders := [name for name in SPLITS if (self.root / name / IMAGES).is_dir()]:
            return {name: len(_list_names(self.root / name)) for name in folders}
        count = len(_list_names(self.root))
        sizes = {split: len(range(count)[_part(count, split, self._holdout)]) for split in SPLITS}
        return {split: size for split, size in sizes.items() if size}

    def batch(self, indices: Sequence[int]) -> Scenes:
        scenes = collate([self._load(self.paths[index]) for index in indices])
        return scenes | {"visibility": visible_ids(scenes["mask"], self.max_id + 1)}

    def _load(self, path: Path) -> Scenes:
        picture = open_upright(path)
        pixels = np.array(picture)[..., None] if picture.mode == "L" else np.array(open_rgb(path))
        mask = self._read_ids(path, MASKS)
        if mask.max() > self.max_id:
            raise InputError(
                f"mask of {path} has the id {mask.max()}, above max_id {self.max_id}; set that to the largest"
            )
        self._check_size(path, picture.size)
        scene: Scenes = {
            "image": pixels_to_image(torch.from_numpy(pixels), self.grayscale),
            "mask": torch.from_numpy(mask),
        }
        if self.has_classes:
            classes = _class_of_ids(mask, self._read_ids(path, CLASSES), self.max_id + 1, path)
            scene["factors"] = {"class": torch.from_numpy(classes)}
        return scene

    def _read_ids(self, image_path: Path, kind: str) -> np.ndarray:
        path = image_path.parents[1] / kind / image_path.name
        ids = _read_bytes(path)
        self._check_size(path, ids.shape[::-1])
        return ids

    def _check_size(self, path: Path, size: tuple[int, int]) -> None:
        if size != self.size:
            found, expected = (f"{height} x {width}" for width, height in (size, self.size))
            raise InputError(f"{path} is {found} but the first image is {expected}; all must have one size")


def is_sprite_folder(path: Path) -> bool:
    """Whether the folder, or a split in it, has images, masks and masks of classes."""
    folders = (path, *(path / split for split in SPLITS))
    return any(all((folder / kind).is_dir() for kind in (IMAGES, MASKS, CLASSES)) for folder in folders)


def _split_folder(root: Path, split: str | None) -> Path:
    """The folder that holds the images of the split, among others where ``root`` is not divided."""
    divided = [name for name in SPLITS if (root / name / IMAGES).is_dir()]
    if split is None or not divided:
        if split not in (None, *SPLITS):
            raise InputError(
                f"folder {root} has no split {split!r}; choose one of {', '.join(SPLITS)}, or None for all"
            )
        if divided and not (root / IMAGES).is_dir():
            raise InputError(f"folder {root} holds the splits {', '.join(divided)}; choose one of them")
        return root
    if split not in divided:
        raise InputError(f"folder {root} has no split {split!r}; its splits are {', '.join(divided)}")
    return root / split


def _part(count: int, split: str | None, holdout: bool) -> slice:
    """Which of ``count`` images of an undivided folder belong to the split."""
    first = 2 * NUM_TEST if holdout else 0
    parts = {"test": slice(0, NUM_TEST), "val": slice(NUM_TEST, 2 * NUM_TEST), "train": slice(first, count)}
    return parts.get(split, slice(None))


def _list_names(folder: Path) -> list[str]:
    return [path.name for path in list_images(folder / IMAGES, {".png"}) if path.parent == folder / IMAGES]


def _check_paired(names: list[str], folder: Path, kind: str) -> None:
    present = {path.name for path in list_images(folder / kind, {".png"})}
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(names)} images have no mask in {folder / kind}, the first is {missing[0]}"
        )


def _read_bytes(path: Path) -> np.ndarray:
    """(H, W) uint8 of an image of one channel."""
    picture = open_upright(path)
    if picture.mode not in ("L", "P", "1"):
        raise InputError(f"mask {path} is of mode {picture.mode}; it must be gray of 8 bits, whose values are the ids")
    return np.array(picture).astype(np.uint8)


def _largest_id(paths: list[Path]) -> int:
    largest = 1
    for done, path in enumerate(paths, start=1):
        largest = max(largest, int(_read_bytes(path).max()))
        if done % SHOWN_EVERY == 0 or done == len(paths):
            progress("looking for the largest id:", done, len(paths))
    return largest


def _class_of_ids(mask: np.ndarray, classes: np.ndarray, num_ids: int, path: Path) -> np.ndarray:
    """(N,) int64: the class of every id, 0 of those that do not occur."""
    of_id = np.zeros(num_ids, dtype=np.int64)
    of_id[mask] = classes  # of several pixels any, so that one of another class shows below
    if (of_id[mask] != classes).any() or of_id[0] != 0 or (of_id[np.unique(mask[mask > 0])] == 0).any():
        raise InputError(
            f"{CLASSES} and {MASKS} of {path} do not fit: every object must have one class above 0, the background 0"
        )
    return of_id
