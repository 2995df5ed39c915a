"""BestWeights: keep the weights with the lowest validation loss, and stop when it no longer falls."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from unscene.errors import InputError
from unscene.training.checkpoint import export_weights
from unscene.training.module import VAL_LOSS
from unscene.training.run import RunFolder


class BestWeights(Callback):
    """RUN/best holds the weights with the lowest ``val/loss`` so far, for `unscene.load` and all commands.

    After going back to an earlier checkpoint these may be weights from behind it until the loss is lower than before.

    Not Lightning's EarlyStopping, which on resuming goes on after it had stopped, with the patience of the checkpoint
    instead of the one asked for, does nothing if there is nothing to validate on, and knows of no weights.

    Args:
        patience: stop after so many validations in a row without a lower loss; by default never.
    """

    monitor = VAL_LOSS  # which is computed only if a callback says so

    def __init__(self, patience: int | None = None) -> None:
        if patience is not None and patience < 1:
            raise InputError(f"patience is {patience}; it takes at least 1 validation to see that nothing improves")
        self.patience = patience
        self.lowest, self.step, self.waited = inf, 0, 0  # the best loss and its step, and validations since

    # ---- what Lightning calls ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "step": self.step, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lowest, self.step, self.waited = state["lowest"], state["step"], state["waited"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not trainer.limit_val_batches:
            raise InputError(
                "BestWeights compares weights on held-out scenes, but there are none; set data.val, or take "
                "BestWeights out of trainer.callbacks"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_in_vain(trainer)  # continued after it had stopped

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = trainer.callback_metrics[VAL_LOSS].item()
        if loss < self.lowest:
            self.lowest, self.step, self.waited = loss, trainer.global_step, 0
            if trainer.is_global_zero:
                export_weights(pl_module.model, self._folder(trainer))
        else:
            self.waited += 1
        self._stop_if_in_vain(trainer)

    # ---- its two effects ---------------------------------------------------------------------------------------

    def _stop_if_in_vain(self, trainer: Trainer) -> None:
        if self.patience is not None and self.waited >= self.patience:
            trainer.should_stop = True
            trainer.print(
                f"\nstopped: {VAL_LOSS} was lowest at step {self.step}, {self.waited} validations ago; "
                f"the weights of that step are in {self._folder(trainer)}"
            )

    @staticmethod
    def _folder(trainer: Trainer) -> Path:
        return RunFolder(Path(trainer.default_root_dir)).best
