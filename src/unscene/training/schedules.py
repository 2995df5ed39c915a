"""Learning-rate schedules: pure functions of the optimisation step, so that resuming needs no state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from unscene.errors import InputError


class Schedule(ABC):
    """Maps the number of optimisation steps done to a factor on the optimiser's learning rate."""

    @abstractmethod
    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Constant(Schedule):
    """The optimiser's learning rate throughout."""

    def __call__(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """Multiply by ``factor`` every ``decay_steps``, smoothly; the defaults are those of the IODINE reference code.

    Args:
        factor: what is left of the learning rate after ``decay_steps``, above 0.
        decay_steps: number of optimisation steps per ``factor``, at least 1.
        warmup_steps: the rate also rises linearly, from 0, over so many steps; the decay does not wait for their end.
    """

    factor: float = 0.1
    decay_steps: int = 1_000_000
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _require(self.factor > 0, f"factor must be above 0, got {self.factor}")
        _require(self.decay_steps >= 1, f"decay_steps must be at least 1, got {self.decay_steps}")
        _require(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")

    def __call__(self, step: int) -> float:
        rise = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return rise * self.factor ** (step / self.decay_steps)


@dataclass(frozen=True)
class WarmupDecay(Schedule):
    """Rise linearly over ``warmup_steps``, stay at 1 until ``decay_start``, then fall to ``final``, and stay there.

    Args:
        decay_end: optimisation step at which ``final`` is reached.
        decay_start: optimisation step at which the decay begins; by default the end of the warm-up.
        warmup_steps: length of the rise; 0 starts at the full rate.
        shape: of the fall.
        final: factor at the end, at least 0.
    """

    decay_end: int
    decay_start: int | None = None
    warmup_steps: int = 0
    shape: Literal["cosine", "linear"] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        _require(self.warmup_steps >= 0, f"warmup_steps must not be negative, got {self.warmup_steps}")
        _require(self.final >= 0, f"final must not be negative, got {self.final}")
        _require(
            self.warmup_steps <= self._start < self.decay_end,
            f"needs warmup_steps <= decay_start < decay_end, got {self.warmup_steps}, {self._start}, {self.decay_end}",
        )

    @property
    def _start(self) -> int:
        return self.warmup_steps if self.decay_start is None else self.decay_start

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)  # never 0: a first step without any effect would be wasted
        done = min(max((step - self._start) / (self.decay_end - self._start), 0.0), 1.0)
        remaining = (1 + math.cos(math.pi * done)) / 2 if self.shape == "cosine" else 1 - done
        return self.final + (1 - self.final) * remaining


@dataclass(frozen=True)
class MultiStep(Schedule):
    """Multiply by ``gamma`` at each of the ``milestones``.

    Args:
        milestones: optimisation steps from which on the next lower rate holds.
        gamma: what is left of the learning rate after a milestone, above 0.
    """

    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _require(all(step >= 1 for step in self.milestones), f"milestones must be at least 1, got {self.milestones}")
        _require(self.gamma > 0, f"gamma must be above 0, got {self.gamma}")

    def __call__(self, step: int) -> float:
        return self.gamma ** sum(step >= milestone for milestone in self.milestones)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise InputError(f"learning-rate schedule: {problem}")
