"""CLEVRER: videos of colliding objects, from the official folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unscene.data.clevrer_annotations import MAX_OBJECTS, Annotation, read_annotation
from unscene.data.clevrer_masks import read_colors, read_detections
from unscene.data.clips import visible_ids
from unscene.data.dataset import SceneDataset, collate
from unscene.data.preprocess import pixels_to_image
from unscene.data.videos import iterate_pictures
from unscene.errors import InputError
from unscene.scenes import Scenes

SPLITS = {"train": range(10_000), "val": range(10_000, 15_000), "test": range(15_000, 20_000)}  # video numbers
LENGTH, WIDTH, HEIGHT = 128, 480, 320  # frames, and their size
SIDE = 80  # pixels cut off on the left and on the right
SHORTEST = 40  # frames that a trimmed clip must have
NUMBER = re.compile(r"_(\d{5})\.")


def is_clevrer(root: Path) -> bool:
    """Whether CLEVRER's videos, or their folders such as video_10000-11000, lie in the folder or right below it."""
    names = (path.name for pattern in ("video_*", "*/video_*") for path in root.glob(pattern))
    return any(re.fullmatch(r"video_\d{5}(-\d{5}|\.mp4)", name) for name in names)


@dataclass(frozen=True)
class Clip:
    """Frames ``begin`` to ``end`` - 1 of a video."""

    video: int
    begin: int
    end: int


class CLEVRER(SceneDataset):
    """The videos below ``root`` (any folders, video_10000.mp4) with their annotations (annotation_10000.json), if any.

    ``image`` (T, 3, 64, 64), or (T, 1, 64, 64) with ``grayscale``: the middle 320 x 320 pixels of every frame,
    bicubic with antialiasing. ``split``: by the official numbers; train 0-9999, val 10000-14999, and test
    15000-19999, which has no annotations.

    ``factors`` where all videos have annotations, id i being the i-th object listed, of N - 1 = 10 at most, 0 for
    those that are not there: ``color``, ``material``, ``shape`` (N,) categories from 1, in the order of CATEGORIES in
    `clevrer_annotations`; ``location`` and ``velocity`` (N, T, 3) in the units of the simulation; ``inside`` (N, T)
    bool, whether in the camera's view.

    ``trim`` keeps of each video the frames in which all of its objects are in view: from the first such frame to
    the one before the next that is not; videos with less than 40 (or ``frames``) of them are left out. ``min_objects``
    and ``max_objects`` select videos. PROVIDE's test clips: split "val", trimmed, 3 to 5 or 6 objects. ``frames``:
    the first so many; by default 128, or 40 of trimmed clips. ``clips`` lists what was taken from which video.

    ``mask`` (T, 64, 64) uint8 from ``mask_root``, files that end in the number of the video: .json are the
    detections published with CLEVRER (sim_10000.json, proposal_10000.json), matched to the annotated objects by
    colour, material and shape. They are a network's predictions, so scores on them are approximate. .mp4 are videos
    of flat colours, of the whole video or of its trimmed clip; their ids are in no order, so there are no factors.
    ``visibility`` (N,): of the masks, else whether the object was in the camera's view in these frames.

    Raises InputError if videos, annotations or masks that are needed are missing, of another size or too short.

    Source: Yi et al. (2020), http://clevrer.csail.mit.edu; crop and trimming as in PROVIDE (Zablotskaia et al.,
    2021). Not faithful: their resizing is scikit-image's, and their trimmed clips lack the first frame of some.
    """

    timed_factors = ("location", "velocity", "inside")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        trim: bool = False,
        frames: int | None = None,
        min_objects: int = 0,
        max_objects: int | None = None,
        mask_root: str | Path | None = None,
        image_size: int = 64,
        grayscale: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r} of CLEVRER; choose one of {', '.join(SPLITS)}")
        if frames is not None and frames < 1 or image_size < 1:
            raise InputError(f"frames is {frames} and image_size {image_size}; both must be at least 1")
        self.image_size, self.grayscale = image_size, grayscale
        self.num_frames = frames or (SHORTEST if trim else LENGTH)
        self._videos = _by_number(Path(root), "video_*.mp4")
        self._annotations = _by_number(Path(root), "annotation_*.json")
        if not self._videos:
            raise InputError(f"there are no videos such as video_10000.mp4 in {root}, nor in subfolders")
        self._sizes = {name: len(self._videos.keys() & set(numbers)) for name, numbers in SPLITS.items()}
        videos = sorted(self._videos.keys() & set(SPLITS[split]))
        self.clips = [Clip(video, 0, LENGTH) for video in videos]
        if trim or min_objects > 0 or max_objects is not None:
            self.clips = self._select(videos, trim, min_objects, max_objects or MAX_OBJECTS)
        if not self.clips:
            raise InputError(
                f"none of the {len(videos)} videos of split {split!r} in {root} are left; check split, trim and the "
                "numbers of objects"
            )
        self._masks = None if mask_root is None else self._find_masks(Path(mask_root))

    def _select(self, videos: list[int], trim: bool, fewest: int, most: int) -> list[Clip]:
        clips = []
        for video in videos:
            annotation = self._annotation(video)
            span = annotation.trimmed() if trim else range(LENGTH)
            if fewest <= len(annotation.kinds) <= most and len(span) >= (max(SHORTEST, self.num_frames) if trim else 0):
                clips.append(Clip(video, span.start, span.stop))
        return clips

    def _find_masks(self, root: Path) -> dict[int, Path]:
        masks = _by_number(root, "*.mp4") | _by_number(root, "*.json")
        missing = [clip.video for clip in self.clips if clip.video not in masks]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(self.clips)} videos have no masks in {root}, the first is {missing[0]:05d}"
            )
        return masks

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def splits(self) -> dict[str, int]:
        """Of all videos found, whether selected or not."""
        return {name: size for name, size in self._sizes.items() if size}

    @cached_property
    def _has_factors(self) -> bool:
        colors = self._masks is not None and any(path.suffix == ".mp4" for path in self._masks.values())
        return not colors and all(clip.video in self._annotations for clip in self.clips)

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self.batch_clips(indices, [0] * len(indices), self.num_frames)

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        clips = [self.clips[index] for index in indices]
        begins = [clip.begin + start for clip, start in zip(clips, starts, strict=True)]
        spans = [range(begin, begin + frames) for begin in begins]
        return collate([self._read(clip, span) for clip, span in zip(clips, spans, strict=True)])

    def _read(self, clip: Clip, span: range) -> Scenes:
        scene: Scenes = {"image": self._image(self._videos[clip.video], span)}
        if self._has_factors:
            factors = self._annotation(clip.video).factors(span)
            scene["factors"] = {name: torch.from_numpy(value) for name, value in factors.items()}
            shown = scene["factors"]["inside"].any(1)
            shown[0] = True
            scene["visibility"] = shown
        if self._masks is not None:
            scene["mask"] = torch.from_numpy(self._mask(clip, span))
            scene["visibility"] = visible_ids(scene["mask"][None], MAX_OBJECTS + 1)[0]
        return scene

    def _image(self, path: Path, span: range) -> torch.Tensor:
        box, size = (SIDE, 0, WIDTH - SIDE, HEIGHT), (self.image_size, self.image_size)
        pixels = []
        for picture in islice(iterate_pictures(path, span.start), len(span)):
            if picture.size != (WIDTH, HEIGHT):
                raise InputError(
                    f"video {path} has {picture.height} x {picture.width} pixels; CLEVRER's have {HEIGHT} x {WIDTH}"
                )
            pixels.append(np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=box)))
        if len(pixels) < len(span):
            found = f"{span.start + len(pixels)} or less"
            raise InputError(f"video {path} is too short: frame {span.stop - 1} was asked for, it has {found}")
        return pixels_to_image(torch.from_numpy(np.stack(pixels)), self.grayscale)

    def _mask(self, clip: Clip, span: range) -> np.ndarray:
        path = self._masks[clip.video]
        if path.suffix == ".json":
            kinds = self._annotation(clip.video).kinds
            mask = read_detections(path, kinds, span)
        else:
            mask = read_colors(path)
            first = clip.begin if len(mask) == clip.end - clip.begin else 0  # of the clip, or of the whole video
            mask = mask[span.start - first : span.stop - first]
        if mask.shape != (len(span), HEIGHT, WIDTH) or mask.max() > MAX_OBJECTS:
            raise InputError(
                f"masks {path} have shape {mask.shape} and {mask.max()} objects; expected {(len(span), HEIGHT, WIDTH)} "
                f"and at most {MAX_OBJECTS}"
            )
        # the pixel in the middle of each block that becomes one
        rows = ((np.arange(self.image_size) + 0.5) * HEIGHT / self.image_size).astype(np.int64)
        return mask[:, rows[:, None], SIDE + rows]

    def _annotation(self, video: int) -> Annotation:
        if video not in self._annotations:
            raise InputError(
                f"video {video:05d} has no annotation_{video:05d}.json in the folder of the videos or below; "
                "trimming, numbers of objects and detections need it"
            )
        return read_annotation(self._annotations[video])


def _by_number(root: Path, pattern: str) -> dict[int, Path]:
    """The files below ``root`` by the number that ends their names."""
    return {int(found[1]): path for path in sorted(root.rglob(pattern)) if (found := NUMBER.search(path.name))}
