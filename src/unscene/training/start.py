"""StartFromData: before the first step, a model looks at some of the training data and begins from there."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from unscene.errors import InputError
from unscene.training.module import own_generator


class StartFromData(Callback):
    """Calls ``model.start_from(images, generator)`` with a random sample of the training images (N, C, H, W).

    Only a training that begins at step 0 and without --init does so. Sample and generator follow from the seed and are
    the same for all processes.

    Args:
        num_images: N; all of them where there are fewer.
    """

    def __init__(self, num_images: int = 100) -> None:
        if num_images < 1:
            raise InputError(f"StartFromData: num_images is {num_images}; it takes at least 1 image to start from")
        self.num_images = num_images

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not hasattr(pl_module.model, "start_from"):
            name = type(pl_module.model).__name__
            raise InputError(f"{name} does not start from data; take StartFromData out of trainer.callbacks")

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.ckpt_path is not None:
            return
        generator, data = own_generator("start", pl_module.seed), trainer.datamodule.train
        chosen = torch.randperm(len(data), generator=generator)[: self.num_images].tolist()
        pl_module.model.start_from(data.batch(chosen)["image"].to(pl_module.device), generator)
