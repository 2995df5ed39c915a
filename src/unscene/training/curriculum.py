"""LengthCurriculum: train on short clips first and on longer ones, in smaller batches, once that no longer helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Sampler

from unscene.data.clips import Clips
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.scenes import Scenes
from unscene.training.sampler import StepSampler

NOTICE = 100  # steps between the decision and the first longer clip: what workers have fetched by then is used up
CHUNKS = 4  # the moving averages are those of so many chunks of steps


class LengthCurriculum(Callback):
    """Stages of clip length F and batch size, for ``data.train`` with whole videos.

    A stage ends when the moving average of the loss has improved by less than ``improvement`` over ``patience`` steps,
    when the posterior has collapsed (the KL of a slot and frame below ``min_kl`` nats for ``window`` steps), or after
    ``max_steps``; but never before ``min_steps``. When stages began is part of every checkpoint, and the order of the
    clips is a function of that, seed and step: a resumed training goes on exactly as an uninterrupted one.

    PROVIDE (Zablotskaia et al. 2020) describes such a curriculum in words; these numbers are ours.

    Args:
        frames: F of each stage.
        batch_sizes: videos per process in each stage.
        min_steps: shortest stage.
        max_steps: longest stage.
        window: steps in a moving average.
        patience: steps over which it must improve.
        improvement: by this share of itself.
        min_kl: nats per slot and frame; needs a loss term named kl, else it is not looked at.
    """

    def __init__(
        self,
        frames: Sequence[int] = (4, 10, 20, 30, 40),
        batch_sizes: Sequence[int] = (32, 16, 8, 8, 8),
        min_steps: int = 10_000,
        max_steps: int = 60_000,
        window: int = 2_000,
        patience: int = 5_000,
        improvement: float = 0.005,
        min_kl: float = 0.5,
    ) -> None:
        if len(frames) != len(batch_sizes) or not frames or min(*frames, *batch_sizes) < 1:
            raise InputError(f"curriculum: give a batch size for each clip length, got {frames} and {batch_sizes}")
        if not NOTICE < min_steps <= max_steps or window < CHUNKS or patience < window:
            raise InputError(
                f"curriculum: needs {NOTICE} < min_steps <= max_steps and {CHUNKS} <= window <= patience, "
                f"got {min_steps}, {max_steps}, {window}, {patience}"
            )
        self.frames, self.batch_sizes = tuple(frames), tuple(batch_sizes)
        self.min_steps, self.max_steps, self.improvement, self.min_kl = min_steps, max_steps, improvement, min_kl
        self.chunk, self.chunks_of_patience = window // CHUNKS, patience // (window // CHUNKS)
        self.starts = [0]  # first step of each stage so far
        self.means: list[list[float]] = []  # [loss, KL] of each chunk of the stage
        self.sums, self.steps = torch.zeros(2), 0  # of the chunk that is being filled

    def stage(self, step: int) -> int:
        """Which stage a step belongs to."""
        return max(i for i, start in enumerate(self.starts) if step >= start)

    # ---- what Lightning calls ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"starts": self.starts, "means": self.means, "sums": self.sums, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.starts, self.means = list(state["starts"]), list(state["means"])
        self.sums, self.steps = state["sums"].clone(), state["steps"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Scenes, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        kl = trainer.callback_metrics.get("kl", torch.tensor(torch.nan)) / getattr(pl_module.model, "num_slots", 1)
        values = torch.stack([outputs["loss"].detach().cpu(), kl.cpu()])
        self.record(
            trainer.global_step,
            values.float(),
            lambda means: trainer.strategy.reduce(means.to(pl_module.device), reduce_op="mean"),
        )

    # ---- when a stage ends -------------------------------------------------------------------------------------

    def record(self, done: int, values: Float[Tensor, 2], reduce: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        """Take in loss and KL per slot of the last of ``done`` steps; ``reduce`` averages over processes."""
        waiting = done <= self.starts[-1]  # the next stage is decided on and has not begun
        if waiting or len(self.starts) == len(self.frames):
            return
        self.sums, self.steps = self.sums + values, self.steps + 1
        if self.steps == self.chunk:
            self.means.append(reduce(self.sums / self.chunk).tolist())
            self.sums, self.steps = torch.zeros(2), 0
        if self._is_over(done - self.starts[-1]):
            self.starts.append(done + NOTICE)
            self.means, self.sums, self.steps = [], torch.zeros(2), 0

    def _is_over(self, steps: int) -> bool:
        """Whether the stage has done its part after so many steps."""
        if steps < self.min_steps - NOTICE:
            return False
        return steps >= self.max_steps - NOTICE or (self.steps == 0 and (self._stagnates() or self._collapsed()))

    def _stagnates(self) -> bool:
        if len(self.means) < CHUNKS + self.chunks_of_patience:
            return False
        losses = [loss for loss, _ in self.means]
        now = sum(losses[-CHUNKS:]) / CHUNKS
        before = sum(losses[-CHUNKS - self.chunks_of_patience : -self.chunks_of_patience]) / CHUNKS
        return before - now < self.improvement * abs(before)

    def _collapsed(self) -> bool:
        latest = [kl for _, kl in self.means[-CHUNKS:]]
        return len(latest) == CHUNKS and all(kl < self.min_kl for kl in latest)


class StagedClips:
    """Clips of several lengths of the same videos; an index is (frames, number of the clip)."""

    def __init__(self, videos: SceneDataset, lengths: Sequence[int]) -> None:
        self.clips = {frames: Clips(videos, frames) for frames in lengths}

    def __getitem__(self, index: tuple[int, int]) -> Scenes:
        frames, number = index
        return self.clips[frames][number]

    def __getitems__(self, indices: Sequence[tuple[int, int]]) -> Scenes:
        return self.clips[indices[0][0]].batch([number for _, number in indices])


class StageSampler(Sampler[list[tuple[int, int]]]):
    """Batches of StagedClips as the curriculum stands when they are drawn; within a stage a StepSampler's order.

    ``start`` and ``batches_per_step`` count batches, as accumulation needs several of them for a step.
    """

    def __init__(
        self, curriculum: LengthCurriculum, data: StagedClips, *, start: int, batches_per_step: int, **order: int
    ) -> None:
        self.curriculum, self.data, self.order = curriculum, data, order
        self.start, self.batches_per_step = start, batches_per_step

    @cached_property
    def samplers(self) -> list[StepSampler]:
        stages = zip(self.curriculum.frames, self.curriculum.batch_sizes, strict=True)
        return [StepSampler(len(self.data.clips[frames]), size, **self.order) for frames, size in stages]

    def batch(self, number: int) -> list[tuple[int, int]]:
        stage = self.curriculum.stage(number // self.batches_per_step)
        first = self.curriculum.starts[stage] * self.batches_per_step
        frames = self.curriculum.frames[stage]
        return [(frames, index) for index in self.samplers[stage].batch(number - first)]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return map(self.batch, count(self.start))
