"""SVHN: the .mat files of cropped street view house numbers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from unscene.data.dataset import SceneDataset
from unscene.data.labels import class_factor
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

FILE_NAMES = {split: f"{split}_32x32.mat" for split in ("train", "test", "extra")}
DAMAGED = (MatReadError, NotImplementedError, OSError, TypeError, ValueError, IndexError, EOFError, zlib.error)


class SVHN(SceneDataset):
    """Photographs of digits, 32 x 32, from ``train_32x32.mat``, ``test_32x32.mat`` and ``extra_32x32.mat`` in ``root``.

    ``image`` (3, 32, 32), or (1, 32, 32) with ``grayscale``; ``factors``: ``class`` (2,) int64, 0 for the background
    and 1 + the digit for the image. No masks.

    ``split``: one of train, test and extra, or several joined by "+": DTI-Sprites (Monnier et al., 2021) trains on
    train+test+extra, 630,420 images, and evaluates on train+test, 99,289, which is what None means. ``root`` may be
    one such file too, whatever its name, whose split is all of it. All images stay in memory: 3 kB each, 2 GB of
    train+test+extra.

    Source: Netzer et al. (2011).
    Raises InputError for missing, damaged and foreign files, an unknown split, and labels other than 1 to 10 (which is
    how the files call the digit 0).
    """

    def __init__(self, root: str | Path, split: str | None = None, grayscale: bool = False) -> None:
        self.root, self.grayscale = Path(root), grayscale
        parts = [_read(path) for path in _files(self.root, split)]
        self._pixels = [pixels for pixels, _ in parts]
        self._ends = np.cumsum([len(pixels) for pixels in self._pixels])
        self.digits = np.concatenate([digits for _, digits in parts])

    def __len__(self) -> int:
        return len(self.digits)

    def batch(self, indices: Sequence[int]) -> Scenes:
        parts = np.searchsorted(self._ends, indices, side="right")
        pixels = np.stack([self._pixels[part][i - self._ends[part]] for part, i in zip(parts, indices, strict=True)])
        image = pixels_to_image(torch.from_numpy(pixels), self.grayscale)
        return {"image": image, "factors": class_factor(self.digits[list(indices)].tolist())}


def is_svhn(path: Path) -> bool:
    """Whether this is a .mat file, or a folder with files of SVHN's names."""
    return path.suffix == ".mat" or any((path / name).is_file() for name in FILE_NAMES.values())


def _files(root: Path, split: str | None) -> list[Path]:
    if root.suffix == ".mat":
        return [root]
    names = ("train+test" if split is None else split).split("+")
    for name in names:
        if name not in FILE_NAMES:
            raise InputError(
                f"SVHN has no split {name!r}; choose of {', '.join(FILE_NAMES)}, or several as train+extra"
            )
    if len(set(names)) < len(names):
        raise InputError(f"split {split!r} names a part twice; name each once")
    return [root / FILE_NAMES[name] for name in names]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (S, H, W, 3), a view of the array as it is stored, and digits (S,) from 0 to 9."""
    if not path.is_file():
        raise InputError(f"SVHN file {path} does not exist; get it, or choose another split")
    try:
        content = loadmat(path, variable_names=("X", "y"))
    except DAMAGED as error:
        raise InputError(f"cannot read {path}: {error}; it is no MATLAB file or damaged, get it again") from error
    pixels, labels = content.get("X"), content.get("y")
    if pixels is None or labels is None:
        raise InputError(f"{path} has no {'X' if pixels is None else 'y'}; a file of SVHN has images X and labels y")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2] != 3 or labels.size != pixels.shape[3]:
        raise InputError(
            f"{path} has X of {pixels.dtype} {pixels.shape} and {labels.size} labels; expected bytes of shape "
            "(32, 32, 3, S) and S labels"
        )
    if labels.size == 0 or labels.min() < 1 or labels.max() > 10:
        found = f"labels from {labels.min()} to {labels.max()}" if labels.size else "no images"
        raise InputError(f"{path} has {found}; SVHN's are 1 to 9, and 10 for the digit 0")
    return np.moveaxis(pixels, 3, 0), labels.ravel().astype(np.int64) % 10
