"""The decomposition of a video as files, written frame by frame while the video is read.

A video gets a folder of its own, OUT/NAME:

==================  ===========================================================================
film.mp4, film.gif  input, reconstruction and segmentation (the input seen through it) side by side
slot_K.mp4          what slot K paints, times its mask, on black
tracks.csv          one line per object and frame: box, centre and area of its pixels
tracks.npz          the same, with labels (T, H, W) uint8 and slots (T, K, D) float32
info.json           the video's path and how it was decomposed
==================  ===========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from unscene.data import videos
from unscene.data.images import height_and_width
from unscene.data.videos import VIDEOS, iterate_frames
from unscene.errors import InputError
from unscene.export.common import check_folder, check_size, chosen_settings, fixed_size, folder_for, undisturbed
from unscene.export.film import Films
from unscene.export.tracks import TrackWriter
from unscene.figures import overlay
from unscene.figures.colours import to_rgb
from unscene.files import replacing
from unscene.models.base import SceneModel, VideoModel
from unscene.scenes import Decomposition
from unscene.video import follow

FOLDER_FPS = 10  # frames per second of the films of a folder, which has no rate
FILM_HEIGHT = 192  # at least; small frames are enlarged to it by repeating pixels
GAP = 4  # pixels between pictures


def export_video(
    model: SceneModel,
    path: str | Path,
    out: str | Path,
    *,
    image_size: int | Sequence[int] | None = None,
    num_slots: int | None = None,
    iterations: int | None = None,
    fps: int | float | None = None,
    seed: int = 0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Decompose a video file, or a folder of its frames, into a folder under ``out``; return that.

    A model that is no VideoModel decomposes each frame by itself; its tracks have no identity across frames. Frames
    come to ``image_size`` as images do, by default to the size that the model fixes, else they keep their own.
    ``fps`` is the rate of the films, by default that of the file, and 10 for a folder. Memory does not grow with the
    number of frames. The folder appears complete or not at all; doing a video again replaces it. ``progress`` is
    called with (frames done, None) after each frame, and with the number of frames for both at the end.

    Raises InputError for what cannot be read as a video, frames of more than 256 x 256 pixels that keep their
    size, and whatever the model refuses.
    """
    path, out = Path(path), Path(out)
    settings = chosen_settings(model, num_slots=num_slots, iterations=iterations)
    check_folder(out)
    frames, fps = open_frames(model, path, image_size), frame_rate(path, fps)
    source = {"video": str(path.resolve())}
    folder = folder_for(source, "video", path.resolve().stem, out)
    with replacing(folder) as draft, undisturbed(model, path, seed):
        draft.mkdir()
        with Films(draft, fps) as films, TrackWriter(draft) as tracks:
            for frame, decomposition in follow(model, frames, **settings):
                _write(films, tracks, frame[0].cpu(), decomposition)
                if progress is not None:
                    progress(tracks.frames, None)
        if progress is not None:
            progress(tracks.frames, tracks.frames)
        info = {
            **source,
            "method": type(model).__name__,
            "frames": tracks.frames,
            "size": list(frame.shape[-2:]),
            "fps": fps,
            "followed": isinstance(model, VideoModel),  # else object k of a frame is not object k of the next one
            "seed": seed,
            **settings,
        }
        (draft / "info.json").write_text(json.dumps(info, indent=2) + "\n")
    return folder


def is_video(path: str | Path, model: SceneModel, folders: bool = False) -> bool:
    """Whether `unscene decompose` takes ``path`` for a video, or for images.

    A folder holds the frames of a video if ``folders`` or if the model is a VideoModel, which has no use for images.
    A GIF is a video if it has more than one frame. Raises InputError if a VideoModel is given an image.
    """
    path, follows = Path(path), isinstance(model, VideoModel)
    if path.is_dir():
        return folders or follows
    video = videos.is_video(path) and (follows or not _is_still(path))
    if follows and not video and path.is_file():
        raise InputError(
            f"{path} is no video ({', '.join(sorted(VIDEOS))}), and {type(model).__name__} decomposes nothing else; "
            "name a video file or a folder of frames"
        )
    return video or (follows and not path.exists())


def open_frames(
    model: SceneModel, path: Path, image_size: int | Sequence[int] | None
) -> Iterator[Float[Tensor, "1 C H W"]]:
    """The frames of a video on the model's device; the first one is read now, to fail before anything is written."""
    size = fixed_size(model) if image_size is None else height_and_width(image_size)
    device = next(model.parameters()).device
    crop = None if size is None else "center"  # as images
    frames = iterate_frames(path, size, getattr(model, "image_channels", 3), crop=crop)
    first = next(frames)
    if size is None:
        check_size(path, *first.shape[-2:])
    return (frame[None].to(device) for frame in chain([first], frames))


def frame_rate(path: Path, fps: int | float | None = None) -> float:
    """Frames per second: ``fps`` if given, else those of the file, 10 where there are none."""
    if fps is not None:
        if not 0 < fps <= 1000:
            raise InputError(f"fps is {fps}; give frames per second above 0, up to 1000")
        return float(fps)
    return float(videos.frame_rate(path) or FOLDER_FPS)


def side_by_side(
    pictures: Sequence[UInt8[np.ndarray, "H W 3"]], frame: UInt8[np.ndarray, 3] | None = None
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Pictures of one size in a row, enlarged by a whole factor if they are small; ``frame`` is a colour around them.

    Around all but the first, which is the input; without a colour, as much white is left.
    """
    factor = -(-FILM_HEIGHT // pictures[0].shape[0])
    margin = [(GAP, GAP), (GAP, GAP), (0, 0)]
    large = [np.pad(p.repeat(factor, 0).repeat(factor, 1), margin, constant_values=255) for p in pictures]
    if frame is not None:
        for picture in large[1:]:
            picture[:GAP], picture[-GAP:], picture[:, :GAP], picture[:, -GAP:] = (frame,) * 4
    return np.concatenate(large, 1)


def _is_still(path: Path) -> bool:
    """Whether it is a GIF of a single frame, or of none that can be read."""
    if path.suffix.lower() != ".gif":
        return False
    try:
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1) == 1
    except OSError:
        return True


def _write(films: Films, tracks: TrackWriter, frame: Tensor, decomposition: Decomposition) -> None:
    """One frame (C, H, W) and its Decomposition (1, K, ...) to all files."""
    labels = decomposition.segmentation[0].cpu()
    reconstruction = decomposition.reconstruction[0].cpu()
    picture = side_by_side([to_rgb(frame), to_rgb(reconstruction), overlay(frame, labels)])
    films.write("film.mp4", picture)
    films.write("film.gif", picture)
    for k, slot in enumerate(to_rgb(decomposition.masked_components[0])):
        films.write(f"slot_{k}.mp4", side_by_side([slot]))
    tracks.add(labels.numpy().astype(np.uint8), decomposition.slots[0].float().cpu().numpy())
