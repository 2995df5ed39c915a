"""ClassFolder: images in one folder per class, such as the traffic signs of GTSRB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unscene.data.dataset import SceneDataset
from unscene.data.folder import check_same_size, choose_split, split_files
from unscene.data.images import IMAGES, check_crop, fitted, height_and_width, list_images, open_rgb
from unscene.data.labels import class_factor
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

EXTENSIONS = IMAGES | {".ppm"}  # as GTSRB is published
# An explicit list, as the rule by which it is described, 1,000 to 1,500 images, holds for a ninth class too.
NAMED = {"gtsrb-8": ("3", "7", "9", "11", "17", "18", "25", "35")}


class ClassFolder(SceneDataset):
    """The images below ``root``/CLASS, of any format that `ImageFolder` takes or PPM, class by class in natural order.

    ``image`` (3, H, W), or (1, H, W) with ``grayscale``; ``factors``: ``class`` (2,) int64, 0 for the background and
    for the image 1 + the place of its class in ``class_names``. Images right in ``root`` are left out.

    ``classes``: the names of the folders to take, in this order; numbers with and without leading zeros are the same
    (GTSRB's 00003 is 3). "gtsrb-8" are the eight classes that DTI-Sprites (Monnier et al., 2021) clusters, 10,650
    images of the training split. None takes all folders in natural order.
    ``image_size``: (H, W), or one number for both; images are resized antialiased bilinear. ``crop`` = "center"
    keeps the aspect ratio and cuts off what is too much, None stretches. Without ``image_size`` all images must have
    the same size.
    ``split``: the subfolder of ``root`` of that name, with the folders of the classes in it; where there is neither
    train, val nor test, 80 / 10 / 10 % by a hash of each file's name; None all. ``paths`` lists the files.

    Raises InputError for missing or empty folders, no classes, classes without a folder or named twice, differing
    sizes and, when read, for unreadable images.
    """

    def __init__(
        self,
        root: str | Path,
        classes: str | tuple[str | int, ...] | None = None,
        image_size: int | tuple[int, int] | None = None,
        crop: str | None = None,
        grayscale: bool = False,
        split: str | None = None,
    ) -> None:
        check_crop(crop, image_size)
        self.root, self.crop, self.grayscale = Path(root), crop, grayscale
        self.image_size = None if image_size is None else height_and_width(image_size)
        self._classes = classes
        if split is None:
            folder, files = self.root, self._list_files(self.root)
        else:
            folder = self.root / split if (self.root / split).is_dir() else self.root
            files = choose_split(split_files(self.root, self._list_files), split, self.root, "images")
        self.class_names, self.paths, self.labels = self._choose(folder, files)
        if self.image_size is None:
            check_same_size(self.paths)

    def _list_files(self, folder: Path) -> list[Path]:
        """All images in folders of this one."""
        files = [path for path in list_images(folder, EXTENSIONS) if path.parent != folder]
        if not files:
            raise InputError(f"folder {folder} has images but no folders of them; expected one per class: CLASS/IMAGE")
        return files

    def _choose(self, folder: Path, files: list[Path]) -> tuple[list[str], list[Path], list[int]]:
        """Names of the classes, the files of these classes in their order, and the label of each, from 0."""
        by_class: dict[str, list[Path]] = {}
        for path in files:
            by_class.setdefault(_canonical(path.relative_to(folder).parts[0]), []).append(path)
        names = list(by_class) if self._classes is None else _names(self._classes)
        for name in names:
            if name not in by_class:
                raise InputError(f"class {name} has no images in {folder}; its classes are {', '.join(by_class)}")
        paths = [path for name in names for path in by_class[name]]
        return names, paths, [label for label, name in enumerate(names) for _ in by_class[name]]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def splits(self) -> dict[str, int]:
        """In images of all classes, taken or not."""
        return {split: len(paths) for split, paths in split_files(self.root, self._list_files).items() if paths}

    def batch(self, indices: Sequence[int]) -> Scenes:
        image = torch.stack([self._load(self.paths[index]) for index in indices])
        return {"image": image, "factors": class_factor([self.labels[index] for index in indices])}

    def _load(self, path: Path) -> Tensor:
        picture = fitted(open_rgb(path), self.image_size, self.crop)
        return pixels_to_image(torch.from_numpy(np.array(picture)), self.grayscale)


def _names(classes: str | tuple[str | int, ...]) -> list[str]:
    """The names meant, each once; InputError if there are none or too few."""
    if isinstance(classes, str):
        if classes.lower() not in NAMED:
            raise InputError(f"there is no list of classes {classes!r}; give {', '.join(NAMED)}, or a list of folders")
        classes = NAMED[classes.lower()]
    names = [_canonical(str(name)) for name in classes]
    if not names:
        raise InputError("classes is an empty list; name at least one folder, or leave it out to take all")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"class {twice[0]} is named twice; name every class once")
    return names


def _canonical(name: str) -> str:
    return str(int(name)) if name.isdecimal() else name
