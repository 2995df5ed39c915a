"""What every evaluation needs: scenes in batches, options that make sense, noise of its own, and where it ran."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import torch
from torch.utils.data import Dataset

from unscene.data.dataset import collate
from unscene.errors import InputError
from unscene.models.base import SceneModel
from unscene.noise import own_noise
from unscene.scenes import Scenes

PRECISIONS = ("32-true", "bf16-mixed")  # named as in Lightning


def count_scenes(dataset: Sized, limit: int | None, batch_size: int, seed: int, precision: str) -> int:
    """How many scenes to evaluate, if the options make sense."""
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    num_scenes = len(dataset) if limit is None else min(limit, len(dataset))
    if num_scenes < 1 or batch_size < 1:
        raise InputError(
            f"nothing to evaluate: the dataset has {len(dataset)} scenes, limit is {limit} and batch_size {batch_size}"
        )
    return num_scenes


def decompose_options(model: SceneModel, num_slots: int | None, iterations: int | None) -> dict[str, int]:
    """The keyword arguments of `decompose` that the caller chose."""
    given = {"num_slots": num_slots, "iterations": iterations}
    options = {name: value for name, value in given.items() if value is not None}
    if "iterations" in options and "iterations" not in inspect.signature(model.decompose).parameters:
        raise InputError(f"{type(model).__name__} does not refine in iterations; leave iterations out")
    return options


def usable_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} cannot be used here ({reason}); leave it out, or name cpu") from error


def batches(dataset: Dataset | Sequence[Scenes], num_scenes: int, batch_size: int) -> Iterator[tuple[int, Scenes]]:
    """(Index of the first scene, batch); a plain loop, for a DataLoader would draw from the global generator."""
    fetch = getattr(dataset, "__getitems__", lambda indices: [dataset[i] for i in indices])
    for start in range(0, num_scenes, batch_size):
        yield start, collate(fetch(range(start, min(start + batch_size, num_scenes))))


@contextmanager
def undisturbed(model: SceneModel, device: torch.device, key: tuple[int, int], precision: str) -> Iterator[None]:
    """The model on its device in evaluation mode, with noise that depends on ``key`` only."""
    training = model.training
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    with own_noise(int(seed), device), mixed:
        try:
            model.to(device).eval()
            yield
        finally:
            model.train(training)


def platform_facts(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} {platform.machine()}"
    return {"device": name, "unscene": version("unscene"), "torch": torch.__version__}
