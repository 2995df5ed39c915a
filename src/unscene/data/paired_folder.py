"""PairedFolder: images and masks of one object each, paired by their order, such as the Weizmann Horses."""

from __future__ import annotations

from pathlib import Path

from unscene.data.clips import visible_ids
from unscene.data.folder import ImageFolder, choose_split, split_files
from unscene.data.images import LOSSLESS, list_images
from unscene.errors import InputError
from unscene.scenes import Scenes

IMAGES, MASKS = "images", "masks"


class PairedFolder(ImageFolder):
    """The images below ``root``/``images`` and the masks below ``root``/``masks``: first with first, in natural order.

    ``image`` as in `ImageFolder`; ``mask`` (H, W) int64: 1 where the file is brighter than half of its brightest
    pixel, such as 255 in masks of 0 and 255, else 0; ``visibility`` (2,): whether there is background and object.
    ``image_size`` and ``crop`` as in `ImageFolder`: images are resized antialiased bilinear, masks to the nearest
    pixel. ``split``: 80 / 10 / 10 % by a hash of each image's name; None all, as DTI-Sprites trains and evaluates.

    Source: layout of the Weizmann Horse data in DTI-Sprites (Monnier et al., 2021), which uses image_size 128.
    Raises InputError for missing or empty folders, different numbers of images and masks, differing sizes and, when
    read, for unreadable files, masks of another size than their image and masks of several objects.
    """

    def __init__(
        self,
        root: str | Path,
        images: str = IMAGES,
        masks: str = MASKS,
        image_size: int | tuple[int, int] | None = None,
        crop: str | None = None,
        grayscale: bool = False,
        split: str | None = None,
    ) -> None:
        super().__init__(Path(root) / images, None, image_size, crop, grayscale)
        mask_paths = list_images(Path(root) / masks, LOSSLESS)
        if len(mask_paths) != len(self.paths):
            raise InputError(
                f"{self.root} has {len(self.paths)} images but {Path(root) / masks} has {len(mask_paths)} masks "
                f"({', '.join(sorted(LOSSLESS))}); every image needs one, in the same order"
            )
        mask_of = dict(zip(self.paths, mask_paths, strict=True))
        if split is not None:
            self.paths = choose_split(split_files(self.root, list_images), split, self.root, "images")
        self.mask_paths = [mask_of[path] for path in self.paths]

    def _load(self, index: int) -> Scenes:
        scene = super()._load(index)
        values = scene["mask"].unique()
        if len(values) > 2 and values[-1] < 128:  # ids; brightness reaches further, also where something blurred it
            raise InputError(
                f"mask {self.mask_paths[index]} has the ids {values.tolist()}, of several objects; open the images as "
                "ImageFolder with mask_root"
            )
        mask = (scene["mask"] > values[-1] / 2).long()
        return scene | {"mask": mask, "visibility": visible_ids(mask[None], 2)[0]}


def is_paired_folder(path: Path) -> bool:
    """Whether the folder has one of images and one of masks."""
    return (path / IMAGES).is_dir() and (path / MASKS).is_dir()
