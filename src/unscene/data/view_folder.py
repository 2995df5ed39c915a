"""ViewFolder: any folder of scenes, each a folder with one image per view."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unscene.data.dataset import SceneDataset
from unscene.data.folder import choose_split, split_files
from unscene.data.images import check_crop, fitted, height_and_width, list_images, open_rgb, upright_size
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes


class ViewFolder(SceneDataset):
    """The scenes below ``root``, folders of images such as scene/view.png, and their views, in natural order.

    ``image`` (V, 3, H, W), or (V, 1, H, W) with ``grayscale``; no labels, and no viewpoints: for models that ask for
    none, with `Views` for those of single images. Images right in ``root`` are left out.

    ``views``: the first so many of each scene; None takes all. Scenes may then have different numbers of them, and
    cannot be stacked to batches, but `Views` takes them all.
    ``image_size``: (H, W), or one number for both; images are resized antialiased bilinear. ``crop`` = "center"
    keeps the aspect ratio and cuts off what is too much, None stretches. Without ``image_size`` all images must have
    the same size.
    ``split``: the subfolder of ``root`` of that name; where there is neither train, val nor test, 80 / 10 / 10 %
    by a hash of each scene's name: stable when scenes come or go; None all. ``paths`` lists the scenes.

    Raises InputError for missing or empty folders, differing sizes, scenes with too few views, and, when read, for
    unreadable images.
    """

    def __init__(
        self,
        root: str | Path,
        views: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        crop: str | None = None,
        grayscale: bool = False,
        split: str | None = None,
    ) -> None:
        if views is not None and views < 1:
            raise InputError(f"views is {views}; take at least 1 of each scene, or all with None")
        check_crop(crop, image_size)
        self.root, self.crop, self.grayscale = Path(root), crop, grayscale
        self.image_size = None if image_size is None else height_and_width(image_size)
        every = split_files(self.root, list_scenes) if split is not None else {}
        self.paths = list_scenes(self.root) if split is None else choose_split(every, split, self.root, "scenes")
        self._views = [_view_files(path, views) for path in self.paths]
        if self.image_size is None:
            self._check_same_size()

    def _check_same_size(self) -> None:
        first, *others = (file for files in self._views for file in files)
        width, height = upright_size(first)
        for file in others:
            if (size := upright_size(file)) != (width, height):
                raise InputError(
                    f"views have different sizes ({first.relative_to(self.root)} is {height} x {width}, "
                    f"{file.relative_to(self.root)} {size[1]} x {size[0]}); set image_size to resize them"
                )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(paths) for split, paths in split_files(self.root, list_scenes).items() if paths}

    @property
    def view_counts(self) -> Sequence[int]:
        return [len(files) for files in self._views]

    def batch(self, indices: Sequence[int]) -> Scenes:
        counts = {len(self._views[index]): self.paths[index].name for index in indices}
        if len(counts) > 1:
            fewest, most = min(counts), max(counts)
            raise InputError(
                f"scenes have different numbers of views ({counts[fewest]} has {fewest}, {counts[most]} {most}); set "
                "views to the smallest, or take single images with Views"
            )
        return {"image": torch.stack([torch.stack([self._load(f) for f in self._views[i]]) for i in indices])}

    def batch_views(self, indices: Sequence[int], views: Sequence[int]) -> Scenes:
        return {"image": torch.stack([self._load(self._views[i][v]) for i, v in zip(indices, views, strict=True)])}

    def _load(self, path: Path) -> Tensor:
        picture = fitted(open_rgb(path), self.image_size, self.crop)
        return pixels_to_image(torch.from_numpy(np.array(picture)), self.grayscale)


def list_scenes(root: Path) -> list[Path]:
    """The folders below ``root`` that hold images, in natural order; nothing hidden.

    Raises InputError if there is no such folder, or no such folder in it.
    """
    folders = [folder for folder in dict.fromkeys(path.parent for path in list_images(root)) if folder != root]
    if not folders:
        raise InputError(f"folder {root} has images but no folders of them; expected one per scene: SCENE/VIEW.png")
    return folders


def _view_files(scene: Path, views: int | None) -> list[Path]:
    """The images right in the folder, or the first so many."""
    files = [file for file in list_images(scene) if file.parent == scene]
    if views is not None and len(files) < views:
        raise InputError(
            f"scene {scene} has {len(files)} views, not {views} as asked for; lower views, or leave it out"
        )
    return files[:views]
