"""SceneModule: the Lightning module around a SceneModel. Optimiser, logging, validation and the step's random seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from unscene.errors import InputError
from unscene.metrics import ari, fg_ari, mse
from unscene.metrics.aggregate import ImageMean
from unscene.models.base import Losses, SceneModel, first_difference
from unscene.scenes import Scenes
from unscene.training.groups import ParameterGroup, arrange, options, regroup
from unscene.training.schedules import Constant, Schedule

OptimizerFactory = Callable[[Iterable], Optimizer]
VAL_LOSS = "val/loss"
REMEDY = "lower the learning rate or clip gradients, then continue from the last checkpoint, which is intact"


class TrainingDiverged(InputError):
    """The loss or the weights are no longer finite; raised before a checkpoint could hold such weights."""


class SceneModule(LightningModule):
    """Trains any SceneModel.

    All randomness of a training step (torch, numpy, random) is seeded from (seed, step, rank)
    before it. So a resumed run draws the same noise as an uninterrupted one, whatever validation,
    logging or data workers drew in between, and processes draw different noise.

    Args:
        model: what is trained.
        optimizer: builds the optimiser from the parameters.
        schedule: factor on its learning rate.
        seed: of the noise in training and validation steps.
        groups: parameters with rates and decays of their own; the logged learning rate is that of the others.
    """

    def __init__(
        self,
        model: SceneModel,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        seed: int = 0,
        groups: Sequence[ParameterGroup] = (),
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.schedule, self.seed = model, optimizer, schedule or Constant(), seed
        self.groups = groups
        self.scores = nn.ModuleDict({"mse": ImageMean(mse), "ari": ImageMean(ari), "fg_ari": ImageMean(fg_ari)})

    def setup(self, stage: str) -> None:
        for group, named in arrange(self.model, self.groups):
            if group.lr_scale == 0:  # what does not learn needs no gradient, nor a part in the norm that is clipped
                for _, parameter in named:
                    parameter.requires_grad_(False)
        if self.model.idle_parameters and isinstance(self.trainer.strategy, DDPStrategy):
            # What the strategy "ddp_find_unused_parameters_true" would do, which no user should have to know.
            self.trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def configure_optimizers(self) -> dict[str, Any]:
        arranged = arrange(self.model, self.groups)
        try:
            optimizer = self.optimizer(options(arranged) if self.groups else self.model.parameters())
        except ValueError as error:
            raise InputError(f"the optimiser cannot be built: {error}") from error
        for (group, _), built in zip(arranged, optimizer.param_groups, strict=True):
            built["lr"] = built["lr"] * group.lr_scale
        # Lambdas, because LambdaLR would save a callable object's attributes and, on resuming, quietly put
        # the old ones in place of what the user asks for now.
        scheduled, constant = (lambda step: self.schedule(step)), (lambda step: 1.0)
        scheduler = LambdaLR(optimizer, [scheduled if group.scheduled else constant for group, _ in arranged])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_start(self, batch: Scenes, batch_idx: int) -> None:
        part = batch_idx % self.trainer.accumulate_grad_batches
        seed_all(self.seed, self.global_step, part, self.global_rank)

    def training_step(self, batch: Scenes, batch_idx: int) -> Tensor:
        losses = self.model.loss(batch, self.global_step)
        check_losses(losses, self.model, self.global_step)
        self.log("loss", losses.total, prog_bar=True, sync_dist=True)
        self.log_dict(losses.terms, sync_dist=True)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return losses.total

    def on_validation_start(self) -> None:
        seed_all(self.seed, self.global_rank)  # the same noise every time: curves show the model, not the draw

    def validation_step(self, batch: Scenes, batch_idx: int) -> None:
        decomposition = self.model.decompose_batch(batch)
        self._score("mse", batch["image"], decomposition.reconstruction)
        if any(getattr(callback, "monitor", None) == VAL_LOSS for callback in self.trainer.callbacks):
            loss = self.model.loss(batch, self.global_step).total  # as long as decomposing again, so not without need
            self.log(VAL_LOSS, loss, batch_size=len(batch["image"]), sync_dist=True, prog_bar=True)
        if "mask" in batch:
            self._score("ari", batch["mask"], decomposition.segmentation)
            self._score("fg_ari", batch["mask"], decomposition.segmentation)

    def _score(self, name: str, *inputs: Tensor) -> None:
        self.scores[name].update(*inputs)
        self.log(f"val/{name}", self.scores[name], on_epoch=True, prog_bar=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_same_model(self.state_dict(), checkpoint["state_dict"])
        self._put_hyper_parameters(*checkpoint["optimizer_states"], *checkpoint["lr_schedulers"])

    def _put_hyper_parameters(self, optimizer_state: dict[str, Any], scheduler_state: dict[str, Any]) -> None:
        """Replace the saved learning rate, betas and so on by those asked for now; moments and step counts stay."""
        configured = self.configure_optimizers()
        scheduler, step = configured["lr_scheduler"]["scheduler"], scheduler_state["last_epoch"]
        now = [rate * factor(step) for rate, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)]
        scheduler_state |= {"base_lrs": scheduler.base_lrs, "_last_lr": now, "lr_lambdas": [None] * len(now)}
        regroup(optimizer_state, configured["optimizer"], [name for name, _ in self.model.named_parameters()])
        for group, rate in zip(optimizer_state["param_groups"], now, strict=True):
            group["lr"] = rate


def check_same_model(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Raise InputError unless both states have the same names and shapes."""
    if difference := first_difference(ours, theirs):
        name, here, there = difference
        raise InputError(
            f"the checkpoint belongs to another model: {name} is {there} there and {here} here; "
            "continue with the method and hyper-parameters it was trained with"
        )


def seed_all(*key: int) -> None:
    """Seed torch (every device), numpy and random from a tuple of non-negative integers."""
    torch_seed, other_seed = np.random.SeedSequence(key).generate_state(2)
    torch.manual_seed(int(torch_seed))
    np.random.seed(other_seed)
    random.seed(int(other_seed))


def own_generator(use: str, *key: int) -> torch.Generator:
    """A generator on the CPU that depends on ``use`` and non-negative integers alone, and is like no step's noise."""
    sequence = np.random.SeedSequence(key, spawn_key=tuple(use.encode()))
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def check_losses(losses: Losses, model: nn.Module, step: int) -> None:
    """Raise TrainingDiverged if the total loss is NaN or infinite, naming the weights or terms that are."""
    if losses.total.isfinite():  # one synchronisation, while the backward pass is not yet queued
        return
    check_weights(model, step)
    terms = {name: value.item() for name, value in losses.terms.items() if not value.isfinite()}
    named = ", ".join(f"{name} = {value}" for name, value in terms.items()) or f"total = {losses.total.item()}"
    raise TrainingDiverged(f"the loss is not finite at step {step}: {named}; {REMEDY}")


def check_weights(model: nn.Module, step: int) -> None:
    """Raise TrainingDiverged if, after ``step`` steps, a weight is NaN or infinite, as finite losses can make it."""
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        others = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise TrainingDiverged(f"the weights are not finite after step {step - 1}: {broken[0]}{others}; {REMEDY}")
