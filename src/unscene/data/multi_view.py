"""MultiViewScenes: the CLEVR scenes from several views that were published with MulMON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unscene.data.clips import visible_ids
from unscene.data.dataset import SceneDataset
from unscene.data.multi_view_index import Entry, read_index
from unscene.data.multi_view_scene import read_scene
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

SPLITS = ("train", "val", "test")
HEAD = 1 << 16  # characters of an index within which its first scene begins


def is_multi_view(root: Path) -> bool:
    """Whether an index of multi-view scenes, or their folder ``data``, lies in the folder."""
    indices = (path for split in SPLITS for path in root.glob(f"*_{split}.json"))
    return any(map(_begins_like_an_index, indices)) or any(root.glob("data/*.npy"))


class MultiViewScenes(SceneDataset):
    """One split of a folder such as clevr_mv or clevr_aug: NAME_train.json, NAME_test.json and the scenes they list.

    ``image`` (V, 3, H, W), (V, 1, H, W) with ``grayscale``; ``mask`` (V, H, W) uint8; ``viewpoint`` (V, 3), see
    `normalise_cameras`; ``visibility`` (N,): whether the object has a pixel in any view, N being 1 + the most objects
    of a scene. The files number the objects of each view from the nearest to the farthest; here the id of the i-th
    object listed (from 0) is i + 1 in all views, also of those that are hidden in some.

    ``factors`` as far as all objects have them: ``shape``, ``size``, ``material``, ``color`` (N,) categories from 1,
    in the order of NAMES in `multi_view_index`; ``position`` (N, 3), z upwards; ``rotation`` (N,) in degrees.

    ``subset``: so many scenes of the split, chosen at random, always the same, such as 160 of the 200 for testing.
    ``unsafe_pickle``: also read scene files that are pickled, which can run any code: only for files you trust.

    Raises InputError for missing, damaged and pickled files, and for a scene whose arrays do not fit its entry: another
    number or size of views, or label maps with ids beyond its objects.

    Source: Li et al. (2020), https://github.com/NanboLi/MulMON. The layout is taken from what its loader expects and
    from the generator's output, not from the published files.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        subset: int | None = None,
        grayscale: bool = False,
        unsafe_pickle: bool = False,
    ) -> None:
        self.root, self.split, self.grayscale, self.unsafe_pickle = Path(root), split, grayscale, unsafe_pickle
        index = _find_index(self.root, split)
        entries, factors = read_index(index)
        self._num_entities = max(entry.ids.shape[1] for entry in entries)
        chosen = _choose(len(entries), subset, index)
        self._entries = [entries[number] for number in chosen]
        self._factors = {name: values[chosen] for name, values in factors.items()}
        missing = [entry.path for entry in self._entries if not entry.path.is_file()]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(self)} scenes that {index} lists are missing, the first is {missing[0]}; "
                "unpack the folder data beside it"
            )
        self._size = read_scene(self._entries[0], unsafe_pickle)[0].shape[1:3]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def splits(self) -> dict[str, int]:
        """Whole splits, without ``subset``."""
        found = {split: sorted(self.root.glob(f"*_{split}.json")) for split in SPLITS}
        return {split: len(read_index(paths[0])[0]) for split, paths in found.items() if paths}

    def batch(self, indices: Sequence[int]) -> Scenes:
        entries = [self._entries[index] for index in indices]
        pixels, mask = (torch.from_numpy(np.stack(v)) for v in zip(*map(self._read, entries), strict=True))
        return {
            "image": pixels_to_image(pixels, self.grayscale),
            "mask": mask,
            "viewpoint": torch.from_numpy(np.stack([entry.viewpoint for entry in entries])),
            "visibility": visible_ids(mask, self._num_entities),
            "factors": {name: torch.from_numpy(values[list(indices)]) for name, values in self._factors.items()},
        }

    def _read(self, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        pixels, mask = read_scene(entry, self.unsafe_pickle)
        if pixels.shape[1:3] != self._size:
            found, first = ("{} x {}".format(*size) for size in (pixels.shape[1:3], self._size))
            raise InputError(f"the views of {entry.path} are {found}, those of the first scene {first}; resize them")
        return pixels, mask


def _find_index(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise InputError(f"folder {root} does not exist; name the one with the index, such as clevr_mv")
    found = {name: sorted(root.glob(f"*_{name}.json")) for name in SPLITS}
    if len(found.get(split, ())) == 1:
        return found[split][0]
    if found.get(split):
        raise InputError(f"folder {root} has several indices: {', '.join(p.name for p in found[split])}; keep one")
    known = ", ".join(name for name, paths in found.items() if paths) or "none at all"
    raise InputError(f"folder {root} has no index of the split {split!r} (a file ..._{split}.json), only of: {known}")


def _choose(count: int, subset: int | None, index: Path) -> list[int]:
    if subset is None:
        return list(range(count))
    if not 1 <= subset <= count:
        raise InputError(f"subset is {subset}, but {index} lists {count} scenes; set 1 to {count}")
    return sorted(np.random.default_rng(0).permutation(count)[:subset].tolist())


def _begins_like_an_index(path: Path) -> bool:
    with path.open(errors="replace") as file:
        head = file.read(HEAD)
    return '"depth_orders"' in head or '"data_path"' in head
