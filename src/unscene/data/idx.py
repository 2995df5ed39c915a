"""IDXScenes: the idx files of MNIST and of the data sets that share its format."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch

from unscene.data.dataset import SceneDataset
from unscene.data.labels import class_factor
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

# Such as train-images-idx3-ubyte.gz, t10k-images.idx3-ubyte and emnist-digits-test-images-idx3-ubyte.gz
IMAGES = re.compile(r"(?:^|-)(train|test|t10k)-images[-.]idx3-ubyte(\.gz)?$")
BYTES = 8  # the type of the entries, in the third byte of a file


class IDXScenes(SceneDataset):
    """The gray images in the idx files of a folder, plain or gzipped: MNIST, FashionMNIST, EMNIST, KMNIST, USPS.

    ``image`` (1, H, W); where the labels are there too, ``factors``: ``class`` (2,) int64, 0 for the background and
    1 + the label, such as the digit, for the image. No masks.

    ``split``: "train", or "test" (also of files called t10k); None all, train first. ``root`` holds the files of one
    data set: PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, for PREFIX train and test or t10k.

    Source: LeCun et al. (1998).
    Raises InputError for missing, truncated and foreign files, files of several data sets, another number of labels
    than images, differing sizes and an unknown split.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root = Path(root)
        files = _image_files(self.root)
        if split is not None and split not in files:
            raise InputError(f"folder {root} has no idx files of the split {split!r}, only of {', '.join(files)}")
        chosen = list(files.values()) if split is None else [files[split]]
        self._files = files
        arrays = [_read(path, axes=3) for path in chosen]
        if len({array.shape[1:] for array in arrays}) > 1:
            sizes = " and ".join(f"{array.shape[1]} x {array.shape[2]}" for array in arrays)
            raise InputError(f"the images of the splits in {root} are {sizes}; open one split at a time")
        self._pixels = np.concatenate(arrays)
        self.labels = _read_labels(chosen, [len(array) for array in arrays])

    def __len__(self) -> int:
        return len(self._pixels)

    @property
    def splits(self) -> dict[str, int]:
        return {split: _read_header(path, 3)[0] for split, path in self._files.items()}

    def batch(self, indices: Sequence[int]) -> Scenes:
        scenes: Scenes = {"image": pixels_to_image(torch.from_numpy(self._pixels[list(indices), ..., None]))}
        if self.labels is not None:
            scenes["factors"] = class_factor(self.labels[list(indices)].tolist())
        return scenes


def is_idx(path: Path) -> bool:
    """Whether this is a folder with idx files of images."""
    return path.is_dir() and any(IMAGES.search(file.name) for file in path.iterdir())


def _image_files(root: Path) -> dict[str, Path]:
    """{split: file of its images}, train first."""
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist; name the one with the idx files")
    files: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if match := IMAGES.search(path.name):
            split = "train" if match[1] == "train" else "test"
            if split in files:
                raise InputError(f"{root} has {files[split].name} and {path.name}; keep one file of images per split")
            files[split] = path
    if not files:
        raise InputError(f"folder {root} has no idx files; expected such as train-images-idx3-ubyte.gz")
    return dict(sorted(files.items(), reverse=True))


def _read_labels(image_files: list[Path], counts: list[int]) -> np.ndarray | None:
    """The labels (S,) that belong to files of ``counts`` images; None if a file has none beside it."""
    paths = [path.with_name(re.sub(r"images([-.])idx3", r"labels\1idx1", path.name)) for path in image_files]
    if not all(path.is_file() for path in paths):
        return None
    labels = [_read(path, axes=1) for path in paths]
    for path, found, count in zip(paths, labels, counts, strict=True):
        if len(found) != count:
            raise InputError(f"{path} has {len(found)} labels for {count} images; get both files again")
    return np.concatenate(labels)


def _read_header(path: Path, axes: int) -> tuple[int, ...]:
    with _open(path) as file:
        return _parse_header(file.read(4 + 4 * axes), path, axes)


def _read(path: Path, axes: int) -> np.ndarray:
    """The array of bytes in the file."""
    try:
        with _open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; it is damaged or no gzip file, get it again") from error
    shape = _parse_header(content, path, axes)
    array = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    if array.size != math.prod(shape):
        raise InputError(f"{path} holds {array.size} bytes where its header says {shape}; get it again")
    return array.reshape(shape)


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _parse_header(content: bytes, path: Path, axes: int) -> tuple[int, ...]:
    """The shape that the first bytes tell: two zeros, the type, the number of axes, and their lengths."""
    expected = bytes([0, 0, BYTES, axes])
    if content[:4] != expected or len(content) < 4 + 4 * axes:
        kind = "images" if axes == 3 else "labels"
        raise InputError(
            f"{path} begins with {content[:4].hex() or 'nothing'} instead of {expected.hex()}: no idx file of {kind}"
        )
    return tuple(np.frombuffer(content, dtype=">u4", count=axes, offset=4).tolist())
