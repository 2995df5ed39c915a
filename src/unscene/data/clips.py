"""Clips and Frames: the videos of a dataset, cut into shorter ones or into single images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.scenes import Scenes

PER_FRAME = ("image", "mask", "collision", "background", "camera")  # what has an axis T after that of the batch


@runtime_checkable
class ReadsClips(Protocol):
    """A dataset of videos that reads some of their frames faster than all of them."""

    num_frames: int  # of every video
    timed_factors: Collection[str]  # names of the factors with one entry per frame, (B, N, T, ...)

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        """Of each of the videos ``indices`` its ``frames`` frames from its ``starts`` on, as one batch."""


class Clips(SceneDataset):
    """The floor(L / F) consecutive clips of F = ``frames`` frames of each video of ``dataset``, which have L.

    Clips do not overlap; what is left at the end of a video is not used. Clip i is number i % floor(L / F) of its
    video. ``image`` (B, F, C, H, W) and ``mask`` are cut, and so are factors with one entry per frame, (B, N, L, ...);
    where the dataset does not tell (`ReadsClips`), any factor whose third axis is as long as the videos counts as
    such. ``visibility`` is that within the clip where there is a mask, else the video's.

    Source: how PROVIDE (Zablotskaia et al., 2021) cuts its training videos.
    Raises InputError if ``frames`` is below 1 or more than the videos have, and for a dataset of images.
    """

    def __init__(self, dataset: SceneDataset, frames: int) -> None:
        self.dataset, self.num_frames = dataset, frames
        self._source = clip_reader(dataset)
        length = self._source.num_frames
        if not 1 <= frames <= length:
            raise InputError(
                f"cannot cut clips of {frames} frames from the videos of {type(dataset).__name__}, which have "
                f"{length}; set frames between 1 and {length}"
            )
        self._per_video = length // frames

    def __len__(self) -> int:
        return len(self.dataset) * self._per_video

    @property
    def splits(self) -> dict[str, int | None]:
        """In clips."""
        sizes = self.dataset.splits.items()
        return {split: None if size is None else size * self._per_video for split, size in sizes}

    def batch(self, indices: Sequence[int]) -> Scenes:
        videos = [int(index) // self._per_video for index in indices]
        starts = [int(index) % self._per_video * self.num_frames for index in indices]
        return self._source.batch_clips(videos, starts, self.num_frames)


class Frames(Clips):
    """The single frames of all videos of ``dataset`` as images (C, H, W), for models of images.

    Frame i is number i % L of video i // L, so that uniform indices are uniform over all frames. Masks, factors
    and visibility are those of the frame, as in `Clips`. Raises InputError for a dataset of images.
    """

    def __init__(self, dataset: SceneDataset) -> None:
        super().__init__(dataset, 1)

    def batch(self, indices: Sequence[int]) -> Scenes:
        scenes = super().batch(indices)
        scenes |= {name: scenes[name][:, 0] for name in PER_FRAME if name in scenes}
        if "factors" in scenes:
            timed = self._source.timed_factors
            scenes["factors"] = {name: v[:, :, 0] if name in timed else v for name, v in scenes["factors"].items()}
        return scenes


class WholeVideos:
    """`ReadsClips` of any dataset of videos: reads each of them whole, once per batch, and cuts."""

    def __init__(self, dataset: SceneDataset) -> None:
        first = dataset[0]
        if first["image"].ndim != 4:
            raise InputError(
                f"{type(dataset).__name__} holds images of shape {tuple(first['image'].shape)}, not videos "
                "(T, C, H, W); clips and frames can be cut from videos only"
            )
        self.dataset, self.num_frames = dataset, len(first["image"])
        self.timed_factors = {
            name for name, v in first.get("factors", {}).items() if v.ndim > 1 and v.shape[1] == self.num_frames
        }

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        videos, position = torch.tensor(indices).unique(return_inverse=True)
        whole = self.dataset.batch(videos.tolist())
        when = torch.tensor(starts)[:, None] + torch.arange(frames)  # (B, F)
        clips = {name: value[position] for name, value in whole.items() if name not in (*PER_FRAME, "factors")}
        clips |= {name: whole[name][position[:, None], when] for name in PER_FRAME if name in whole}
        if "factors" in whole:
            clips["factors"] = {
                name: v[position[:, None], :, when].transpose(1, 2) if name in self.timed_factors else v[position]
                for name, v in whole["factors"].items()
            }
        if "visibility" in clips and "mask" in clips:
            clips["visibility"] = visible_ids(clips["mask"], clips["visibility"].shape[1])
        return clips


def clip_reader(dataset: SceneDataset) -> ReadsClips:
    """The dataset itself where it can read clips, else a reader that cuts them from whole videos."""
    return dataset if isinstance(dataset, ReadsClips) else WholeVideos(dataset)


def visible_ids(mask: Tensor, num_entities: int) -> Tensor:
    """(B, N) bool: which of the ids 0 to N - 1 occur in the label maps (B, ...)."""
    pixels = mask.flatten(1)
    return torch.stack([(pixels == i).any(1) for i in range(num_entities)], dim=1)
