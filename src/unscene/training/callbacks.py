"""What a run shows while it trains: images per second, and one progress bar over all steps."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class Throughput(Callback):
    """Logs ``images_per_second`` over all processes, data loading included, validation not."""

    def on_train_start(self, *_: Any) -> None:
        self.images, self.seconds = 0, 0.0
        self.mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seconds += time.perf_counter() - self.mark
        self.images += len(batch["image"]) * trainer.world_size
        pl_module.log("images_per_second", self.images / self.seconds)
        if (batch_idx + 1) % (trainer.log_every_n_steps * trainer.accumulate_grad_batches) == 0:
            self.images, self.seconds = 0, 0.0
        self.mark = time.perf_counter()

    def on_validation_end(self, *_: Any) -> None:
        self.mark = time.perf_counter()


class StepProgress(TQDMProgressBar):
    """Lightning's bar, but counting from the beginning of training, also after resuming."""

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        super().on_train_start(trainer)
        bar, batches_per_step = self.train_progress_bar, trainer.accumulate_grad_batches
        bar.set_description("Training")
        bar.total = trainer.max_steps * batches_per_step if trainer.max_steps > 0 else None
        bar.initial = bar.n = trainer.global_step * batches_per_step

    def on_train_epoch_start(self, *_: Any) -> None:
        """All of training is one epoch."""
