"""Reassignment: prototypes that hardly ever win begin again as copies of the one that wins most."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from unscene.errors import InputError
from unscene.models.base import SceneModel
from unscene.scenes import Scenes
from unscene.training.module import own_generator

NEARLY_SAME = 0.05  # share of their summed intensity by which near duplicates differ; ours


class Reassignment(Callback):
    """For models with prototypes, such as DTISprites and DTIClustering (Monnier et al. 2020 and 2021).

    After every ``every`` steps, each prototype that won less than ``threshold`` / K of the time becomes a copy of the
    one that won most: all that the model's `prototype_axes` names, with the optimiser's moments; its colours and those
    of the original get a little noise, else the two would stay one. Then counting begins anew. While the sprites are
    frozen nothing is reassigned and nothing counted. ``reassigned`` in the log counts from the beginning of training.

    The time is that of all processes together, and all draw the same layer and noise, which follow from seed and step.
    At the end of training the console names prototypes that were not used or look the same: signs of a bad start,
    against which `unscene train --restarts` helps.

    Args:
        every: optimisation steps between two looks.
        threshold: at most 1. With an empty sprite, usage is relative to that of the most used sprite.
        usage: that of one object ``layer`` drawn at random, as in the reference code, or ``pooled`` over all of them,
            which cannot take away a sprite that another layer needs.
        noise: standard deviation of the noise on colours.
    """

    def __init__(
        self,
        every: int,
        threshold: float = 0.2,
        usage: Literal["layer", "pooled"] = "layer",
        noise: float = 1e-4,
    ) -> None:
        if every < 1 or not 0 < threshold <= 1 or noise < 0 or usage not in ("layer", "pooled"):
            raise InputError(
                "Reassignment: needs every >= 1, 0 < threshold <= 1, noise >= 0 and usage layer or pooled, "
                f"got {every}, {threshold}, {noise} and {usage}"
            )
        self.every, self.threshold, self.usage, self.noise = every, threshold, usage, noise
        self.reassigned = 0
        self.last = torch.zeros(())  # usage (K,), over all layers, in the stretch before the last look

    # ---- what Lightning calls ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {"reassigned": self.reassigned, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reassigned, self.last = state["reassigned"], state["last"].clone()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not hasattr(pl_module.model, "prototype_axes"):
            name = type(pl_module.model).__name__
            raise InputError(f"{name} has no prototypes to reassign; take Reassignment out of trainer.callbacks")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Scenes, batch_idx: int) -> None:
        model = pl_module.model
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.was_frozen = model.frozen  # asked now, for after its loss the model is a step older
        if trainer.world_size > 1:
            self.before = model.usage.clone(), model.usage_images.clone()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Scenes, batch_idx: int
    ) -> None:
        model = pl_module.model
        if trainer.world_size > 1:
            # At once, for the next forward pass, and each checkpoint, takes the first process's counters for all.
            for counter, before in zip((model.usage, model.usage_images), self.before, strict=True):
                counter.copy_(before + trainer.strategy.reduce(counter - before, reduce_op="sum"))
        if self.was_frozen:
            clear_usage(model)
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.global_step % self.every == 0:
            self._look(trainer, pl_module)
        pl_module.log("reassigned", float(self.reassigned))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = pl_module.model
        used = self.last + model.usage.sum(0).cpu()[: len(model.sprites)]
        if not used.any():  # frozen to the end, or never trained
            return
        signs = [f"sprite {k} is not used" for k, usage in enumerate(used.tolist()) if usage == 0]
        signs += [f"sprite {j} is nearly the same as {i}" for i, j in near_duplicates(model)]
        if signs:
            trainer.print(f"\nwarning: {'; '.join(signs)}. Another seed, or the best of --restarts 3, may do better")

    # ---- the look at the counters ------------------------------------------------------------------------------

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = pl_module.model
        if model.usage_images == 0:
            return
        generator = own_generator("reassignment", pl_module.seed, trainer.global_step)
        layers = (model.usage / model.usage_images).cpu()
        layer = int(torch.randint(len(layers), (), generator=generator))
        usage = layers[layer] if self.usage == "layer" else layers.mean(0)
        starved, most_used = find_starved(usage, len(model.sprites), self.threshold)
        if starved:
            copy_prototype(model, trainer.optimizers, most_used, starved)
            add_noise(model.sprites, [most_used, *starved], self.noise, generator)
        self.reassigned += len(starved)
        self.last = layers.sum(0)[: len(model.sprites)]
        clear_usage(model)


def clear_usage(model: SceneModel) -> None:
    model.usage.zero_()
    model.usage_images.zero_()


def find_starved(usage: Float[Tensor, " candidates"], num_prototypes: int, threshold: float) -> tuple[list[int], int]:
    """Prototypes whose usage is below ``threshold`` / K, and the most used one.

    A candidate behind the K prototypes is the empty sprite; without it, what counts is usage relative to the maximum.
    None are starved where nothing but the empty sprite was used.
    """
    own = usage[:num_prototypes].double()
    most_used = int(own.argmax())
    if own[most_used] == 0:
        return [], most_used
    if len(usage) > num_prototypes:
        own = own / own[most_used]
    return (own < threshold / num_prototypes).nonzero()[:, 0].tolist(), most_used


@torch.no_grad()
def copy_prototype(model: SceneModel, optimizers: Sequence[Optimizer], source: int, targets: Sequence[int]) -> None:
    """Make the prototypes ``targets`` copies of ``source``, in all parameters and the optimisers' moments."""
    for name, axis in model.prototype_axes().items():
        parameter = model.get_parameter(name)
        states = [value for o in optimizers for value in o.state.get(parameter, {}).values()]
        moments = [s for s in states if isinstance(s, Tensor) and s.shape == parameter.shape]
        for tensor in (parameter, *moments):
            original = tensor.select(axis, source).clone()
            for target in targets:
                tensor.select(axis, target).copy_(original)


@torch.no_grad()
def add_noise(
    sprites: Float[Tensor, "K C h w"], chosen: Sequence[int], scale: float, generator: torch.Generator
) -> None:
    """Add Gaussian noise to the colours of the sprites ``chosen``, drawn on the CPU, where all processes agree."""
    noise = scale * torch.randn((len(chosen), *sprites.shape[1:]), generator=generator)
    sprites[chosen] += noise.to(sprites)


@torch.no_grad()
def near_duplicates(model: SceneModel) -> list[tuple[int, int]]:
    """Sprites that look nearly the same where they are visible: for each the first that it repeats, as (first, it)."""
    looks = model.sprites.clamp(0, 1)
    if getattr(model, "sprite_masks", None) is not None:
        masks = model.sprite_masks.clamp(0, 1)
        looks = torch.cat([masks, masks * looks], 1)
    looks = looks.flatten(1).double()
    repeats: dict[int, int] = {}
    for i, j in combinations(range(len(looks)), 2):
        if (looks[i] - looks[j]).abs().sum() <= NEARLY_SAME * (looks[i] + looks[j]).sum() / 2:
            repeats.setdefault(j, i)
    return [(i, j) for j, i in repeats.items()]
