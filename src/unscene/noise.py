"""Noise of one's own: randomness that starts from a seed and leaves the global generators as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_noise(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch's generators, that of the CPU and of ``device``, start from ``seed``."""
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
