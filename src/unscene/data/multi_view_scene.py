"""The scene files of MulMON's multi-view data: NumPy archives, or pickled dicts, both under the name .npy."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from unscene.data.multi_view_index import Entry
from unscene.errors import InputError

UNPICKLING = (pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError, TypeError)
DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, *UNPICKLING)


def read_scene(entry: Entry, unsafe_pickle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (V, H, W, 3) and label maps (V, H, W) of a scene, both uint8; ids are those of the objects.

    Raises InputError if the file is damaged, pickled without ``unsafe_pickle``, or does not fit its entry.
    """
    images, masks = _read_arrays(entry.path, unsafe_pickle)
    num_views, num_entities = entry.ids.shape
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) != num_views or images.shape[3] not in (3, 4):
        raise InputError(
            f"'images' of {entry.path} are {images.dtype} of shape {images.shape}; "
            f"expected uint8 of shape ({num_views}, H, W, 3)"
        )
    if masks.shape != (*images.shape[:3], num_entities):
        raise InputError(
            f"'masks' of {entry.path} have shape {masks.shape}; expected {(*images.shape[:3], num_entities)}, as the "
            f"index lists {num_entities - 1} objects"
        )
    nearness = masks[..., 0].reshape(num_views, -1)
    if nearness.min() < 0 or nearness.max() >= num_entities:
        raise InputError(
            f"the label maps of {entry.path} have ids from {nearness.min()} to {nearness.max()}, but the index lists "
            f"{num_entities - 1} objects; leave the scene out"
        )
    mask = np.take_along_axis(entry.ids, nearness.astype(np.int64), axis=1)
    return images[..., :3], mask.reshape(images.shape[:3])


def _read_arrays(path: Path, unsafe_pickle: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        content = _load(path, unsafe_pickle)
    except DAMAGED as error:
        if "pickle" in str(error) and not unsafe_pickle:
            raise InputError(
                f"{path} is pickled, or no NumPy file at all, and reading what is pickled can run any code; if you "
                "trust where it comes from, set unsafe_pickle to true"
            ) from None
        raise InputError(f"cannot read {path}: {error}; get it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no named arrays; expected 'images' and 'masks'")
    for name in ("images", "masks"):
        if not isinstance(content.get(name), np.ndarray):
            raise InputError(f"{path} has no array {name!r}, only {', '.join(map(str, content)) or 'nothing'}")
    return content["images"], content["masks"]


def _load(path: Path, unsafe_pickle: bool) -> Any:
    """Archives as dicts; other files as they are, or the single object in them."""
    with path.open("rb") as file:
        content = np.load(file, allow_pickle=unsafe_pickle)
        if isinstance(content, np.lib.npyio.NpzFile):
            return {name: content[name] for name in content.files}
    return content.item() if isinstance(content, np.ndarray) and content.shape == () else content
