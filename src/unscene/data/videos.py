"""Videos, as files or as folders of frames: read whole or frame by frame, and their frame rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import av
import numpy as np
import torch
from av.error import FFmpegError
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unscene.data.images import IMAGES, center_crop, check_crop, height_and_width, list_images, open_rgb
from unscene.data.preprocess import pixels_to_image
from unscene.errors import InputError

VIDEOS = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".gif"}
FRAMES = IMAGES - VIDEOS


def read_video(
    path: str | Path,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    frames: int | None = None,
    start: int = 0,
    stride: int = 1,
    crop: str | None = None,
) -> Float[Tensor, "T C H W"]:
    """The frames of a video in [0, 1]: all from ``start`` on, or ``frames`` of them; see `iterate_frames`.

    Raises InputError if the video is too short for these.
    """
    every = iterate_frames(path, image_size, channels, start=start, stride=stride, crop=crop)
    found = list(islice(every, frames))
    if not found or (frames is not None and len(found) < frames):
        wanted = "a frame" if frames is None else f"{frames} frames"
        raise InputError(
            f"video {path} is too short: {wanted} from frame {start} on, every {stride}, were asked for, "
            f"it has {len(found)}; ask for fewer, or leave the video out"
        )
    return torch.stack(found)


def iterate_frames(
    path: str | Path,
    image_size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    start: int = 0,
    stride: int = 1,
    crop: str | None = None,
) -> Iterator[Float[Tensor, "C H W"]]:
    """The frames of a video file, or of a folder of images in natural order, one by one, in [0, 1].

    Only one frame is in memory at a time. ``image_size``: (H, W), or one number for both; frames are resized
    antialiased bilinear, stretched, or with ``crop`` = "center" cut to keep the aspect ratio. ``channels``: 3, or
    1 for the luma. Every ``stride``-th frame is taken, from ``start`` on. Videos are turned as their file says.
    Raises InputError, when iterated over, for files that are missing, damaged or no video (only audio), for videos
    without frames, and for frames that change their size unless ``image_size`` makes them equal.
    """
    if channels not in (1, 3):
        raise InputError(f"channels is {channels}; video frames have 3, or 1 in gray")
    check_crop(crop, image_size)
    if start < 0 or stride < 1:
        raise InputError(f"start is {start} and stride {stride}; count frames from 0, and take every 1st or further")
    size = None if image_size is None else height_and_width(image_size)
    first = None
    for number, picture in enumerate(iterate_pictures(Path(path), start, stride)):
        if size is not None:
            resample = Image.Resampling.BILINEAR
            picture = center_crop(picture, size, resample) if crop else picture.resize(size[::-1], resample)
        first = first or picture.size
        if picture.size != first:
            raise InputError(
                f"the frames of {path} change their size from {first[1]} x {first[0]} to {picture.height} x "
                f"{picture.width} in frame {start + number * stride}; set image_size to resize them"
            )
        yield pixels_to_image(torch.from_numpy(np.array(picture)), grayscale=channels == 1)


def count_frames(path: str | Path) -> int:
    """Frames of a video file, by decoding it (headers are not always right), or of a folder of images."""
    path = Path(path)
    return len(frame_files(path)) if path.is_dir() else sum(1 for _ in _decoded(path))


def frame_rate(path: str | Path) -> float | None:
    """Frames per second of a video file; None for a folder of frames and where the file does not tell."""
    if Path(path).is_dir():
        return None
    with _opened(Path(path)) as container:
        rate = container.streams.video[0].average_rate
        return None if rate is None else float(rate)


def frame_files(folder: Path) -> list[Path]:
    """The images right in the folder in natural order; InputError if there are none."""
    files = [path for path in list_images(folder, FRAMES) if path.parent == folder]
    if not files:
        raise InputError(f"folder {folder} has no frames ({', '.join(sorted(FRAMES))}); its subfolders are not read")
    return files


def iterate_pictures(path: Path, start: int = 0, stride: int = 1) -> Iterator[Image.Image]:
    """Every ``stride``-th frame from ``start`` on, upright and in RGB; what `iterate_frames` resizes."""
    if path.is_dir():
        yield from map(open_rgb, frame_files(path)[start::stride])
        return
    for frame in islice(_decoded(path), start, None, stride):
        picture = frame.to_image()  # RGB of 8 bits
        turn = round(frame.rotation / 90) * 90  # counter-clockwise; phones store videos lying on their side
        yield picture.rotate(turn, expand=True) if turn else picture


def _decoded(path: Path) -> Iterator[av.VideoFrame]:
    frame = None
    with _opened(path) as container:
        for frame in container.decode(video=0):
            yield frame
    if frame is None:
        raise InputError(f"video {path} has no frames; it is empty or damaged, leave it out or get it again")


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    if not path.exists():
        raise InputError(f"video {path} does not exist; name a video file or a folder of frames")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video, only {_other_streams(container)}; name a file with pictures")
            yield container
    except FFmpegError as error:
        raise InputError(
            f"cannot read video {path}: {error.strerror or error}; "
            "if it is damaged get it again, else convert it to MP4"
        ) from error


def _other_streams(container: av.container.InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "an empty container"


def is_video(path: Path) -> bool:
    """Whether the name is that of a video file."""
    return path.suffix.lower() in VIDEOS


def same_shape(videos: Sequence[Tensor], paths: Sequence[Path]) -> Float[Tensor, "B T C H W"]:
    """Stack videos (T, C, H, W) to a batch; InputError that names two of them if they differ."""
    for video, path in zip(videos, paths, strict=True):
        if len(video) != len(videos[0]):
            raise InputError(
                f"videos have different lengths ({paths[0].name} has {len(videos[0])} frames, {path.name} "
                f"{len(video)}); set frames to the length of the shortest, or less"
            )
        if video.shape != videos[0].shape:
            (height, width), (other_height, other_width) = videos[0].shape[-2:], video.shape[-2:]
            raise InputError(
                f"videos have different sizes ({paths[0].name} is {height} x {width}, {path.name} {other_height} x "
                f"{other_width}); set image_size to resize them"
            )
    return torch.stack(list(videos))
