"""One training: the run folder, and the Trainer that fills it."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from unscene.errors import InputError
from unscene.files import replacing
from unscene.models.base import SceneModel
from unscene.training.callbacks import StepProgress, Throughput
from unscene.training.checkpoint import LAST, AtomicCheckpointIO, Checkpoints
from unscene.training.data import SceneData
from unscene.training.groups import ParameterGroup
from unscene.training.logger import MetricsFile
from unscene.training.memory import keep_freed_memory
from unscene.training.module import OptimizerFactory, SceneModule
from unscene.training.schedules import Schedule

# Ours, not the user's: training is one endless epoch counted in steps, and has its own sampler, logs and checkpoints.
FIXED = {
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class RunFolder:
    """Where a training keeps its things."""

    path: Path

    config = property(lambda self: self.path / "config.yaml")
    metrics = property(lambda self: self.path / "metrics.csv")
    checkpoints = property(lambda self: self.path / "checkpoints")
    model = property(lambda self: self.path / "model")
    best = property(lambda self: self.path / "best")

    def start(self, ckpt_path: str | Path | None) -> Path | None:
        """The checkpoint to continue from, None for a new training; refuses to mix a new one with an old one."""
        last = self.checkpoints / LAST
        if ckpt_path is None:
            if last.exists() or self.model.exists():
                way = "continue it with --ckpt_path last, or" if last.exists() else "its checkpoints are gone, so"
                raise InputError(f"{self.path} already holds a training; {way} name another folder with --run")
            return None
        checkpoint = last if str(ckpt_path) == "last" else Path(ckpt_path)
        if not checkpoint.is_file():
            raise InputError(f"there is no checkpoint {checkpoint} to continue from; leave out --ckpt_path to start")
        return checkpoint


class Record(Callback):
    """Writes config.yaml when training starts: a checkpoint that does not fit was refused by then."""

    def __init__(self, folder: RunFolder, config: str | None) -> None:
        self.folder, self.config = folder, config

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        if self.config is not None:
            with replacing(self.folder.config) as temporary:
                temporary.write_text(self.config)
        if trainer.ckpt_path is None:
            self.folder.metrics.unlink(missing_ok=True)  # of a run that ended before its first checkpoint


def train(
    model: SceneModel,
    data: SceneData,
    optimizer: OptimizerFactory,
    *,
    run: Path | str,
    schedule: Schedule | None = None,
    groups: Sequence[ParameterGroup] = (),
    seed: int = 0,
    checkpoint_every: int = 1000,
    keep_checkpoints: int = 3,
    ckpt_path: str | Path | None = None,
    config: str | None = None,
    **trainer_options: Any,
) -> RunFolder:
    """Train ``model`` on ``data`` and leave logs, checkpoints and weights in the folder ``run``.

    Args:
        model: the model, initialised; seed before building it.
        data: what it is trained on.
        optimizer: builds the optimiser from the parameters, for example ``partial(Adam, lr=3e-4)``.
        run: folder of this training. A folder that holds a training already is only continued.
        schedule: of the learning rate; by default constant.
        groups: parameters with rates and decays of their own.
        seed: of the noise in training.
        checkpoint_every: optimisation steps between two checkpoints.
        keep_checkpoints: how many of them remain.
        ckpt_path: ``last``, or a file, to continue from.
        config: text of config.yaml, for the record.
        trainer_options: for `lightning.pytorch.Trainer`.
    """
    folder = RunFolder(Path(run))
    checkpoint = folder.start(ckpt_path)
    keep_freed_memory()
    checkpoints = Checkpoints(folder.checkpoints, folder.model, checkpoint_every, keep_checkpoints)
    callbacks = [Record(folder, config), checkpoints, Throughput()]
    module = SceneModule(model, optimizer, schedule, seed, groups)
    with warnings.catch_warnings(), nothing_left_if_refused(folder):
        warnings.filterwarnings("ignore", message=".*does not have many workers")  # generators need none
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # inside Lightning
        warnings.filterwarnings("ignore", message="GPU available but not used")  # see make_trainer on MPS
        trainer = make_trainer(folder, callbacks, validate=data.val is not None, **trainer_options)
        with one_sentence_if_misconfigured(MisconfigurationException):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    return folder


def make_trainer(folder: RunFolder, own_callbacks: list, *, validate: bool, **options: Any) -> Trainer:
    """Lightning's Trainer with the loggers, callbacks and checkpoint writer of a run."""
    # The user's first: a checkpoint must hold what they have learnt of its step.
    callbacks = [*(options.pop("callbacks", None) or []), *own_callbacks]
    if options.get("enable_progress_bar") is not False:
        callbacks.append(StepProgress(refresh_rate=5))
    if not validate:
        options["limit_val_batches"] = 0
    if options.get("accelerator", "auto") == "auto" and not torch.cuda.is_available():
        options["accelerator"] = "cpu"  # not Apple's MPS, which lacks the metrics' float64
    max_steps = options.get("max_steps", -1)
    if options.get("log_every_n_steps") is None and 0 <= max_steps < 500:
        options["log_every_n_steps"] = max(max_steps // 10, 1)  # else a short run would leave no curves
    folder.path.mkdir(parents=True, exist_ok=True)
    loggers = [MetricsFile(folder.metrics), TensorBoardLogger(folder.path, name="tensorboard", version="")]
    with one_sentence_if_misconfigured(MisconfigurationException, ValueError, TypeError, ImportError):
        return Trainer(
            logger=loggers,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder.path,
            **FIXED,
            **options,
        )


@contextmanager
def nothing_left_if_refused(folder: RunFolder) -> Iterator[None]:
    """Remove a folder that was not there before if its training is refused before the first thing is logged."""
    new = not folder.path.exists()
    try:
        yield
    except InputError:
        if new and not folder.config.exists() and not folder.metrics.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


@contextmanager
def one_sentence_if_misconfigured(*errors: type[Exception]) -> Iterator[None]:
    """Turn what Lightning says about options that do not work, or not on this machine, into an InputError."""
    try:
        yield
    except errors as error:
        raise InputError(f"trainer: {' '.join(str(error).split())}") from error
