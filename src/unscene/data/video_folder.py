"""VideoFolder: any folder of video files, or of folders of frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from unscene.data.dataset import SceneDataset
from unscene.data.folder import choose_split, split_files
from unscene.data.images import check_crop, height_and_width, natural_key
from unscene.data.videos import FRAMES, count_frames, is_video, iterate_frames, read_video, same_shape
from unscene.errors import InputError
from unscene.scenes import Scenes

__all__ = ["VideoFolder", "iterate_frames", "list_videos", "read_video"]


class VideoFolder(SceneDataset):
    """The videos below ``root`` in natural order: files (MP4, MOV, AVI, MKV, WebM, MPEG, GIF) and folders of frames.

    A folder of frames holds images and no video file; ``root`` itself is one if there is nothing else.
    ``image`` (T, 3, H, W), or (T, 1, H, W) with ``grayscale``; there are no labels.

    ``frames``: the first so many frames of each video, after taking every ``stride``-th; None takes all, and all
    videos must then have the same length. `Clips` cuts longer videos into several clips.
    ``image_size``: (H, W), or one number for both; frames are resized antialiased bilinear. ``crop`` = "center"
    keeps the aspect ratio and cuts off what is too much, None stretches. Without ``image_size`` all frames must have
    the same size.
    ``split``: the subfolder of ``root`` of that name; where there is neither train, val nor test, 80 / 10 / 10 %
    by a hash of each video's name: stable when videos come or go; None all. ``paths`` lists the videos.

    Every access decodes the video from its beginning; `unscene data convert` stores small ones ready to use.
    Raises InputError for missing or empty folders and bad options; when read, for damaged videos, for ones shorter than
    ``frames``, and for different lengths or sizes.
    """

    timed_factors = ()

    def __init__(
        self,
        root: str | Path,
        frames: int | None = None,
        stride: int = 1,
        image_size: int | tuple[int, int] | None = None,
        crop: str | None = None,
        grayscale: bool = False,
        split: str | None = None,
    ) -> None:
        if stride < 1 or (frames is not None and frames < 1):
            raise InputError(
                f"frames is {frames} and stride {stride}; a clip has at least 1 frame, every 1st or further"
            )
        check_crop(crop, image_size)
        self.root, self.frames, self.stride = Path(root), frames, stride
        self._options = {"image_size": image_size, "channels": 1 if grayscale else 3, "crop": crop}
        if image_size is not None:
            height_and_width(image_size)
        if split is None:
            self.paths = list_videos(self.root)
        else:
            self.paths = choose_split(split_files(self.root, list_videos), split, self.root, "videos")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(paths) for split, paths in split_files(self.root, list_videos).items() if paths}

    @cached_property
    def num_frames(self) -> int:
        """Of each video: as asked for, else those of the first."""
        return self.frames or -(-count_frames(self.paths[0]) // self.stride)

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self._read(indices, [0] * len(indices), self.frames)

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        return self._read(indices, starts, frames)

    def _read(self, indices: Sequence[int], starts: Sequence[int], frames: int | None) -> Scenes:
        paths = [self.paths[index] for index in indices]
        videos = [
            read_video(path, frames=frames, start=start * self.stride, stride=self.stride, **self._options)
            for path, start in zip(paths, starts, strict=True)
        ]
        return {"image": same_shape(videos, paths)}


def list_videos(root: Path) -> list[Path]:
    """The videos below ``root``, files and folders of frames, in natural order; nothing hidden.

    Raises InputError if there is no such folder, or no video in it.
    """
    if not root.is_dir():
        raise InputError(f"video folder {root} does not exist")
    names = [path.relative_to(root) for path in root.rglob("*")]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    videos = {name for name in names if is_video(name)}
    with_videos = {name.parent for name in videos}
    with_frames = {name.parent for name in names if name.suffix.lower() in FRAMES} - with_videos
    if len(videos | with_frames) > 1:
        with_frames.discard(Path())  # images beside the videos' folders are thumbnails and the like
    found = sorted(videos | with_frames, key=lambda name: natural_key(name.as_posix()))
    if not found:
        raise InputError(f"folder {root} has no videos (such as .mp4) and no folders of frames (such as .png)")
    return [root / name for name in found]
