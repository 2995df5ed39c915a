"""SceneData: the training and validation scenes of a run, and how they reach the processes."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from unscene.data.dataset import SceneDataset, collate
from unscene.errors import InputError
from unscene.training.curriculum import LengthCurriculum, StagedClips, StageSampler
from unscene.training.sampler import StepSampler


class SceneData(LightningDataModule):
    """Scenes to train on and, optionally, held-out scenes to watch the metrics on.

    Args:
        train: the training scenes; of these only images are used.
        val: held-out scenes, with label maps if FG-ARI is to be logged.
        batch_size: images per process and step; the gradient is that of batch_size * processes images. With a
            LengthCurriculum among the trainer's callbacks that one decides, and on the length of clips too.
        num_workers: processes that prepare batches in the background; 0 prepares them in between the steps.
        seed: of the order of the samples.
    """

    def __init__(
        self,
        train: SceneDataset,
        val: SceneDataset | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"data.batch_size must be at least 1, got {batch_size}")
        if len(train) == 0:
            raise InputError("data.train holds no scenes; check its path, split or num_scenes")
        self.train, self.val = train, val
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader:
        """Endless batches, from wherever training stands: Lightning alone would start again at the first."""
        trainer = self.trainer
        start, batches_per_step = trainer.global_step * trainer.accumulate_grad_batches, trainer.accumulate_grad_batches
        order = {"seed": self.seed, "rank": trainer.global_rank, "world_size": trainer.world_size}
        curriculum = next((c for c in trainer.callbacks if isinstance(c, LengthCurriculum)), None)
        if curriculum is None:
            sampler = StepSampler(len(self.train), self.batch_size, start=start, **order)
            return self._loader(self.train, batch_sampler=sampler)
        clips = StagedClips(self.train, curriculum.frames)
        sampler = StageSampler(curriculum, clips, start=start, batches_per_step=batches_per_step, **order)
        return self._loader(clips, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader | list:
        """The held-out scenes once, every process its own part."""
        if self.val is None:
            return []
        processes = self.trainer.world_size
        if len(self.val) < processes:
            raise InputError(
                f"data.val holds {len(self.val)} scenes for {processes} processes; give it one for each, or none at all"
            )
        part = range(self.trainer.global_rank, len(self.val), processes)
        return self._loader(self.val, sampler=part, batch_size=self.batch_size)

    def _loader(self, dataset: SceneDataset | StagedClips, **order) -> DataLoader:
        return DataLoader(
            dataset,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every new loader draws from the global generator
            **order,
        )
