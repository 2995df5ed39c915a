"""Checkpoints that survive anything: each file appears complete under its name or not at all."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors import SafetensorError

from unscene.errors import InputError
from unscene.models.base import SceneModel
from unscene.training.module import check_weights

LAST = "last.ckpt"
UNFINISHED = ".unfinished"  # one name, so that what a killed process leaves is overwritten by the next write


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints to a temporary file and renames it; answers unreadable ones with one sentence."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        # In memory first: torch.save on a full disk fails with an error of its own zip writer.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getbuffer())

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
            with one_sentence_if_unwritable(self.weights):
                export_weights(pl_module.model, self.weights)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step % self.every_n_steps == 0 or trainer.global_step == trainer.max_steps:
            self.save(trainer, pl_module.model)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer, pl_module.model)  # stopped early, for example by max_time

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt):
            hint = f"--ckpt_path last continues from step {self.saved_step}" if self.saved_step else "nothing saved yet"
            trainer.print(f"\nstopped; {hint}")

    def save(self, trainer: Trainer, model: SceneModel) -> None:
        """Save unless this step is saved already (as between two accumulated batches)."""
        if trainer.global_step == self.saved_step:
            return
        check_weights(model, trainer.global_step)
        path = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        with one_sentence_if_unwritable(path):
            trainer.save_checkpoint(path)  # collective: every process calls it, the first one writes
            if trainer.is_global_zero:
                link_atomically(path, self.folder / LAST)
                export_weights(model, self.weights)
                self.remove_old()
        self.saved_step = trainer.global_step

    def remove_old(self) -> None:
        by_age = sorted(self.folder.glob("step-*.ckpt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in by_age[: -self.keep]:  # not by step: training may have gone back to an earlier one
            path.unlink()


@contextmanager
def one_sentence_if_unwritable(path: Path):
    """Turn a failed write (full disk, quota, permissions) into an InputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot write checkpoint {path}: {reason}; make room and continue with --ckpt_path last, "
            "earlier checkpoints are intact"
        ) from error


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that at any moment, power cuts included, ``path`` is the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(UNFINISHED)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def link_atomically(source: Path, target: Path) -> None:
    """Make ``target`` a second name of ``source``, or a copy where the file system has no hard links."""
    temporary = target.with_name(UNFINISHED)
    temporary.unlink(missing_ok=True)  # left by a killed process
    try:
        temporary.hardlink_to(source)
    except OSError:
        write_atomically(target, source.read_bytes())
    else:
        temporary.replace(target)


def export_weights(model: SceneModel, folder: Path) -> None:
    """`model.save_pretrained(folder)`, each file whole at any moment."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / UNFINISHED
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.save_pretrained(temporary)
        for file in sorted(temporary.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
