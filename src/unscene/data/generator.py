"""GeneratedScenes: what the generators share, and the random numbers that make scene i the same in every batch."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

from unscene.data.dataset import SceneDataset
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError
from unscene.scenes import Scenes

SPLITS = ("train", "val", "test")
GAMMA = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment, 2^64 over the golden ratio


class Draws:
    """Random numbers addressed by (scene, draw number): splitmix64 of one key per scene plus a counter.

    A number depends on its scene's key and on how many were drawn before it for that scene,
    never on the other scenes, so vectorised drawing stays a pure function of the scene.
    """

    def __init__(self, keys: np.ndarray, used: int = 0) -> None:
        self.keys, self.used = keys, used  # (B,) uint64; draws made so far, the same for all B scenes

    def __getitem__(self, scenes: np.ndarray | list[int]) -> Draws:
        """The draws of some of the scenes, going on from here: for rejection sampling."""
        return Draws(self.keys[scenes], self.used)

    def uniform(self, *shape: int) -> np.ndarray:
        """(B, *shape) float64, uniform on [0, 1)."""
        count = math.prod(shape)
        counter = np.arange(self.used + 1, self.used + count + 1, dtype=np.uint64)
        self.used += count
        bits = _mix(self.keys[:, None] + GAMMA * counter) >> np.uint64(11)
        return (bits * 2.0**-53).reshape(-1, *shape)

    def integers(self, stop: int | np.ndarray, *shape: int) -> np.ndarray:
        """(B, *shape) int64, uniform on 0..stop-1; ``stop`` broadcasts against the result."""
        return (self.uniform(*shape) * stop).astype(np.int64)


class GeneratedScenes(SceneDataset):
    """Scenes drawn on demand; scene i is a pure function of (class, seed, split, i).

    A subclass implements `generate(draws)`, and `provenance` and `files` where scenes that are stored need them. The
    splits are independent random streams.
    ``grayscale`` turns RGB images into their Rec. 601 luma (`to_grayscale`).
    Raises InputError if ``num_scenes`` is below 1 or ``split`` is unknown.
    """

    def __init__(self, num_scenes: int, seed: int, split: str, grayscale: bool = False) -> None:
        if num_scenes < 1:
            raise InputError(f"num_scenes is {num_scenes}; ask for at least 1 scene")
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        self.num_scenes, self.grayscale = num_scenes, grayscale
        stream = f"{type(self).__name__}/{split}/{seed}".encode()
        self._stream = np.uint64(int.from_bytes(hashlib.blake2b(stream, digest_size=8).digest(), "little"))

    def __len__(self) -> int:
        return self.num_scenes

    @property
    def splits(self) -> dict[str, None]:
        return dict.fromkeys(SPLITS)

    def batch(self, indices: Sequence[int]) -> Scenes:
        return self._colored(self.generate(self.draws(indices)))

    def draws(self, indices: Sequence[int]) -> Draws:
        """The random numbers of the scenes ``indices``."""
        return Draws(_mix(np.asarray(indices).astype(np.uint64) * GAMMA + self._stream))

    def _colored(self, scenes: Scenes) -> Scenes:
        """In gray if that was asked for."""
        if self.grayscale and scenes["image"].shape[-3] == 3:
            scenes["image"] = to_grayscale(scenes["image"])
        return scenes

    @abstractmethod
    def generate(self, draws: Draws) -> Scenes:
        """One scene per key of ``draws``."""

    def provenance(self) -> dict[str, str]:
        """What else the pixels depend on, by name: a renderer with its version, a denoiser."""
        return {}

    def files(self, index: int, scene: Scenes) -> dict[str, bytes]:
        """What is stored beside scene ``index``, such as annotations: {path in the folder of the data set: content}.

        ``scene`` is ``self[index]``.
        """
        return {}


class GeneratedVideos(GeneratedScenes):
    """Videos drawn on demand, of which clips can be drawn alone: `ReadsClips`.

    A subclass has ``num_frames`` and ``timed_factors``, and implements `_film`.
    """

    num_frames: int

    def generate(self, draws: Draws) -> Scenes:
        return self._film(draws, [0] * len(draws.keys), self.num_frames)

    def batch_clips(self, indices: Sequence[int], starts: Sequence[int], frames: int) -> Scenes:
        """``frames`` frames of each of the videos from its ``starts`` on: as cut from `batch`, but only these drawn."""
        return self._colored(self._film(self.draws(indices), starts, frames))

    @abstractmethod
    def _film(self, draws: Draws, starts: Sequence[int], frames: int) -> Scenes:
        """``frames`` frames from its own of ``starts`` on of one video per key of ``draws``."""


def check_objects(fewest: int, most: int, limit: int) -> None:
    """Raise InputError unless 1 <= ``fewest`` <= ``most`` <= ``limit`` objects are asked for."""
    if not 1 <= fewest <= most <= limit:
        raise InputError(f"cannot draw {fewest} to {most} objects; set 1 <= fewest <= most <= {limit}")


def check_views(views: int, image_size: int) -> None:
    """Raise InputError unless there is something to see."""
    if views < 1 or image_size < 1:
        raise InputError(f"views is {views} and image_size {image_size}; a scene needs at least 1 view and 1 pixel")


def assemble(image: np.ndarray, mask: np.ndarray, factors: dict[str, np.ndarray]) -> Scenes:
    """Scenes of image (B, C, H, W), label map (B, H, W) and factors {name: (B, N - 1, ...)} of the objects.

    Adds the background, entity 0, with factors 0, and the visibility of all N entities: whether
    their id occurs in the label map.
    """
    with_background = {name: torch.from_numpy(_prepend_zero(value)) for name, value in factors.items()}
    num_entities = next(iter(with_background.values())).shape[1]
    pixels = mask.reshape(len(mask), -1)
    visibility = torch.from_numpy(np.stack([(pixels == i).any(1) for i in range(num_entities)], axis=1))
    return {
        "image": torch.from_numpy(image),
        "mask": torch.from_numpy(mask),
        "factors": with_background,
        "visibility": visibility,
    }


def pad_objects(factors: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Factors {name: (n, ...)} of one scene's objects as (count, ...), 0 for those that it does not have."""
    return {name: np.pad(v, [(0, count - len(v)), *[(0, 0)] * (v.ndim - 1)]) for name, v in factors.items()}


def _prepend_zero(value: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(value[:, :1]), value], axis=1)


def _mix(bits: np.ndarray) -> np.ndarray:
    """splitmix64's output function (Steele, Lea and Flood, 2014): a bijection that scrambles 64 bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
