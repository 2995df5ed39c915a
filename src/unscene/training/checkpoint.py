"""Checkpoints that survive anything: each file appears complete under its name or not at all."""

from __future__ import annotations

import errno
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError

from unscene.errors import InputError
from unscene.files import remove_leftovers, replacing
from unscene.models.base import SceneModel
from unscene.training.module import check_weights

LAST = "last.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints to a temporary file and renames it; answers unreadable ones with one sentence."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        # In memory first: torch.save on a full disk fails with an error of its own zip writer.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            checkpoint = super().load_checkpoint(path, *args, **kwargs)
        except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise InputError(f"{path} is damaged or no checkpoint; continue from an earlier one beside it") from error
        if not isinstance(checkpoint, dict) or not {"state_dict", "loops"} <= checkpoint.keys():
            raise InputError(f"{path} is no training checkpoint; give one that `unscene train` wrote")
        return checkpoint


class Checkpoints(Callback):
    """Every ``every_n_steps`` optimisation steps and at the end: step-XXXXXXXX.ckpt, last.ckpt and the weights.

    Args:
        folder: where the checkpoints go.
        weights: folder for `model.save_pretrained`, always the weights of last.ckpt.
        every_n_steps: a kill loses at most this many steps.
        keep: how many step-XXXXXXXX.ckpt remain; older ones are removed.
    """

    def __init__(self, folder: Path, weights: Path, every_n_steps: int = 1000, keep: int = 3) -> None:
        if every_n_steps < 1 or keep < 1:
            raise InputError(f"checkpoints: every_n_steps and keep must be at least 1, got {every_n_steps} and {keep}")
        self.folder, self.weights, self.every_n_steps, self.keep = folder, weights, every_n_steps, keep
        self.saved_step = 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Export the weights again: a kill may have fallen between last.ckpt and them."""
        last = self.folder / LAST
        if trainer.is_global_zero and last.exists() and last.samefile(trainer.ckpt_path):
            export_weights(pl_module.model, self.weights)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = trainer.global_step
        if trainer.is_global_zero:
            for path in (self.folder / LAST, self.weights):
                remove_leftovers(path.parent)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._is_due(trainer) and not validates_next(trainer):
            self.save(trainer, pl_module.model)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only now: a resumed training does not validate again, so the checkpoint must hold what callbacks learnt."""
        if self._is_due(trainer):
            self.save(trainer, pl_module.model)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, pl_module.model)  # stopped early, for example by max_time

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            hint = f"--ckpt_path last continues from step {self.saved_step}" if self.saved_step else "nothing saved yet"
            trainer.print(f"\nstopped; {hint}")

    def _is_due(self, trainer: Trainer) -> bool:
        return trainer.global_step % self.every_n_steps == 0 or trainer.global_step == trainer.max_steps

    def save(self, trainer: Trainer, model: SceneModel) -> None:
        """Save unless this step is saved already (as between two accumulated batches)."""
        if trainer.global_step == self.saved_step:
            return
        check_weights(model, trainer.global_step)
        path = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        try:
            trainer.save_checkpoint(path)  # collective: every process calls it, the first one writes
            if trainer.is_global_zero:
                link_atomically(path, self.folder / LAST)
                export_weights(model, self.weights)
                self.remove_old()
        except InputError as error:
            raise InputError(f"{error}; --ckpt_path last continues from step {self.saved_step}") from error
        self.saved_step = trainer.global_step

    def remove_old(self) -> None:
        by_age = sorted(self.folder.glob("step-*.ckpt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in by_age[: -self.keep]:  # not by step: training may have gone back to an earlier one
            path.unlink()


def validates_next(trainer: Trainer) -> bool:
    """Whether a validation follows the batch that has just ended; if it goes by the clock nobody knows."""
    interval = trainer.val_check_batch
    return bool(interval) and trainer.enable_validation and (trainer.fit_loop.total_batch_idx + 1) % interval == 0


def link_atomically(source: Path, target: Path) -> None:
    """Make ``target`` a second name of ``source``, or a copy where the file system has no hard links."""
    with replacing(target) as temporary:
        try:
            temporary.hardlink_to(source)
        except OSError:
            temporary.write_bytes(source.read_bytes())


def export_weights(model: SceneModel, folder: Path) -> None:
    """`model.save_pretrained(folder)`, whole or not at all."""
    with replacing(folder) as draft:
        try:
            model.save_pretrained(draft)
        except SafetensorError as error:  # how its writer tells of a full disk
            raise OSError(errno.ENOSPC, str(error)) from error
