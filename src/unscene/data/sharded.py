"""ShardedScenes: the folders of parts that `unscene data generate` makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from unscene.data.clips import visible_ids
from unscene.data.dataset import StoredScenes
from unscene.data.manifest import PARTS, Block, read_manifest
from unscene.data.parts import Arrays, members, opened_part, scenes_in_place
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError
from unscene.scenes import Scenes

FACTORS = "factors/"
Cut = Callable[[str, Any, int, int], np.ndarray]  # (name, array or member, its row, position in the batch)


class ShardedScenes(StoredScenes):
    """The scenes of one split of a folder that `unscene data generate` has made, images, videos or views.

    Yields all that the generator did, images rounded to bytes. `Clips`, `Frames` and `Views` of it read no more than
    they show: frames and views are stored one by one. ``splits`` {name: number of scenes} lists all of the folder.

    Raises InputError if the manifest is missing or damaged, there is no such split, some of its scenes are missing yet
    (the message names the command that makes them), and, when read, if a part is damaged or of other scenes.
    """

    def __init__(self, root: str | Path, split: str = "train", grayscale: bool = False) -> None:
        self.root, self.split, self.grayscale = Path(root), split, grayscale
        manifest = read_manifest(self.root)
        if split not in manifest.splits:
            raise InputError(f"{self.root} has no split {split!r}; it has {', '.join(manifest.splits)}")
        there = scenes_in_place(self.root, manifest, split)
        missing = manifest.splits[split] - sum(there.values())
        if missing:
            raise InputError(
                f"{missing} of the {manifest.splits[split]} scenes of split {split!r} are missing in {self.root}; "
                f"`{manifest.command_for(self.root)}` makes them"
            )
        self._sizes, self._size, self._settings = manifest.splits, manifest.scenes_per_part, manifest.settings
        self._blocks = list(there)
        self._find_axes(manifest.timed_factors)

    def _find_axes(self, timed_factors: list[str] | None) -> None:
        """What there is of `ReadsClips` and `ReadsViews`: it is by these attributes that they are told apart."""
        with self._opened(self._blocks[0]) as group:
            shapes = {name: member.shape for name, member in members(group).items()}
        if len(shapes["image"]) < 5:
            return
        length = shapes["image"][1]  # T or V
        factors = {name for name in shapes if name.startswith(FACTORS)}
        # of further arrays, those with an axis more than a batch of matrices: cameras (S, T, 4, 4), maps (S, T, H, W)
        self._cut = {name for name in shapes.keys() - factors if len(shapes[name]) > 3 and shapes[name][1] == length}
        if "viewpoint" in shapes:
            self._cut.add("viewpoint")
            self.view_counts = [length] * len(self)
        else:
            guess = {name for name in factors if len(shapes[name]) > 2 and shapes[name][2] == length}
            self._timed = guess if timed_factors is None else {f"{FACTORS}{name}" for name in timed_factors}
            self.num_frames, self.timed_factors = length, {name.removeprefix(FACTORS) for name in self._timed}

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self._read(indices, lambda name, array, row, j: array[row])

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        """``frames`` frames of each of the videos from its ``starts`` on; only these are read."""

        def cut(name: str, array: Any, row: int, j: int) -> np.ndarray:
            when = slice(starts[j], starts[j] + frames)
            if name in self._cut:
                return array[row, when]
            return array[row, :, when] if name in self._timed else array[row]

        return _seen(self._read(indices, cut))

    def batch_views(self, indices: Sequence[int], views: Sequence[int]) -> Scenes:
        """Of each of the scenes ``indices`` its view of ``views``, as a batch of images; only these are read."""

        def cut(name: str, array: Any, row: int, j: int) -> np.ndarray:
            return array[row, views[j]] if name in self._cut else array[row]

        return _seen(self._read(indices, cut))

    def _read(self, indices: Sequence[int], cut: Cut) -> Scenes:
        """Part by part, each opened once: under a millisecond, and no handle survives fork or pickling."""
        wanted = defaultdict(list)  # {part: [(position in the batch, row of the part)]}
        for j, index in enumerate(indices):
            wanted[int(index) // self._size].append((j, int(index) % self._size))
        samples: list[Arrays] = [{}] * len(indices)
        for number, rows in wanted.items():
            with self._opened(self._blocks[number]) as group:
                arrays = {name: _fetch(member) for name, member in members(group).items()}
                for j, row in rows:
                    samples[j] = {name: cut(name, array, row, j) for name, array in arrays.items()}
        return self._to_scenes({name: np.stack([sample[name] for sample in samples]) for name in samples[0]})

    def _opened(self, block: Block) -> AbstractContextManager[h5py.Group]:
        return opened_part(self.root / PARTS / block.name, self.split, self._settings)

    def _to_scenes(self, arrays: Arrays) -> Scenes:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        factors = {name.removeprefix(FACTORS): v for name, v in tensors.items() if name.startswith(FACTORS)}
        scenes: Scenes = {name: v for name, v in tensors.items() if not name.startswith(FACTORS)}
        scenes["image"] = pixels_to_image(scenes["image"], self.grayscale)
        return scenes | ({"factors": factors} if factors else {})


def _fetch(member: h5py.Dataset) -> Any:
    """Read what is small; of what is stored scene by scene only the rows that are asked for are."""
    return member if member.chunks else member[()]


def _seen(scenes: Scenes) -> Scenes:
    """With the visibility of what has been cut out."""
    if "visibility" in scenes and "mask" in scenes:
        scenes["visibility"] = visible_ids(scenes["mask"], scenes["visibility"].shape[1])
    return scenes
