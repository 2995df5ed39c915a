"""How useful are slots to whoever comes next? Properties of objects, predicted from each slot alone.

Dittadi et al., "Generalization and Robustness Implications in Object-Centric Learning" (ICML 2022): one small network
reads every slot; the slots of an image are paired with its objects one to one (Hungarian algorithm), by the loss of
the predictions or by the overlap of masks. `unscene.metrics.predict_factors` is the simpler question of the IODINE
paper. Not as in their code: the loss that decides when to stop is that of the last validation alone, not the mean of
all so far.

Shapes: S scenes, K slots, N objects with the background first, Q columns predicted, D latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.evaluation.slot_data import SlotData
from unscene.metrics import dci
from unscene.metrics.disentanglement import DCI
from unscene.metrics.factors import factor_target
from unscene.noise import own_noise


class Training(NamedTuple):
    """How the network is trained; the defaults are the paper's. Adam, learning rate halved at ``milestones``."""

    steps: int = 6000
    batch_size: int = 64
    learning_rate: float = 1e-3
    milestones: tuple[int, ...] = (2000, 4000)
    validate_every: int = 250
    patience: int = 3  # validations in a row that gain less than min_gain end it
    min_gain: float = 0.01


PAPER = Training()


def predict_from_slots(
    train: SlotData,
    validation: SlotData,
    test: SlotData,
    kinds: Mapping[str, str],
    *,
    hidden_layers: int = 0,
    hidden_size: int = 256,
    matching: str = "loss",
    seed: int = 0,
    training: Training = PAPER,
) -> dict[str, float]:
    """Accuracy of ``categorical`` factors, R^2 of others (mean over their numbers), on the matched objects of ``test``.

    ``kinds`` are those of `unscene.metrics.predict_factors`. Without ``hidden_layers`` the network is linear; the
    paper's have 1 or more of 256 LeakyReLU units ("wide": 1024). It took 10,000 scenes to train, 1024 to stop in time
    and 2000 to test. Objects beyond the number of slots are left out.

    Raises InputError for unknown factors or kinds, and for scenes without objects.
    """
    if matching not in ("loss", "mask"):
        raise InputError(f"matching is {matching!r}; slots and objects are matched by 'loss' or by 'mask'")
    for name, data in {"train": train, "validation": validation, "test": test}.items():
        if not data.present.any():
            raise InputError(f"no object is visible in the scenes of {name}; there is nothing to predict")
    columns = _Columns(train, kinds)
    with own_noise(seed), torch.enable_grad():
        network = _network(train.slots.shape[2], columns.width, hidden_layers, hidden_size)
        _fit(network, columns, train, validation, matching, training)
    with torch.no_grad():
        return columns.scores(network(test.slots), test, matching)


def dci_of_slots(data: SlotData, kinds: Mapping[str, str], **options: Any) -> DCI:
    """`unscene.metrics.dci` of all present objects and the slots whose masks overlap most with theirs, one to one.

    As MulMON reports it, of scenes of which all views were seen: of the slots that all views share, and of those
    projected to views, which are the two that `collect_slots` gives. ``options`` are those of `dci`; scenes keep their
    order, of which the first ``train_fraction`` of the objects is fitted.

    Raises InputError as `dci` does, and for scenes without objects.
    """
    if not data.present.any():
        raise InputError("no object is visible in the scenes; there is nothing to predict")
    scene, entity, slot = data.pairs()
    factors = {name: values[scene, entity] for name, values in data.factors.items()}
    return dci(data.slots[scene, slot], factors, kinds, **options)


class _Columns:
    """What is predicted of an object: for each factor its numbers, standardised, or the logits of its categories."""

    def __init__(self, train: SlotData, kinds: Mapping[str, str]) -> None:
        self.kinds, self.width, self.slices, self.scale, self.ids = kinds, 0, {}, {}, {}
        for name, target in self._raw(train).items():
            values = target[train.present]
            if kinds[name] == "categorical":
                self.ids[name] = values.unique()
                size = len(self.ids[name])
            else:
                deviation = values.std(0, correction=0)
                self.scale[name] = values.mean(0), torch.where(deviation > 0, deviation, 1.0)
                size = values.shape[1]
            self.slices[name] = slice(self.width, self.width + size)
            self.width += size

    def _raw(self, data: SlotData) -> dict[str, Tensor]:
        """Ids (S, N), or numbers (S, N, P), of each factor."""
        shape = data.present.shape
        flat = {name: factor.flatten(0, 1) for name, factor in data.factors.items()}
        return {name: factor_target(name, kind, flat).unflatten(0, shape) for name, kind in self.kinds.items()}

    def targets(self, data: SlotData) -> dict[str, Tensor]:
        """Index of the category (S, N), -1 for one that training lacks, or standardised numbers (S, N, P)."""
        found = {}
        for name, target in self._raw(data).items():
            if name in self.ids:
                match = target.unsqueeze(-1) == self.ids[name]
                found[name] = torch.where(match.any(-1), match.int().argmax(-1), -1)
            else:
                mean, deviation = self.scale[name]
                found[name] = ((target - mean) / deviation).float()
        return found

    def cost(self, predicted: Float[Tensor, "S K Q"], targets: Mapping[str, Tensor]) -> Float[Tensor, "S N K"]:
        """Sum over factors of the cross entropy, or of the mean squared error, of each object with each slot."""
        total = 0.0
        for name, target in targets.items():
            part = predicted[..., self.slices[name]]
            if name in self.ids:
                logs = part.log_softmax(-1).mT  # (S, categories, K)
                chosen = logs.gather(1, target.clamp(min=0).unsqueeze(-1).expand(-1, -1, logs.shape[-1]))
                total = total - chosen * (target >= 0).unsqueeze(-1)
            else:
                total = total + (target.unsqueeze(2) - part.unsqueeze(1)).square().mean(-1)
        return total

    def scores(self, predicted: Tensor, data: SlotData, matching: str) -> dict[str, float]:
        targets = self.targets(data)
        scene, entity, slot = data.pairs(self.cost(predicted, targets) if matching == "loss" else None)
        found = {}
        for name, target in targets.items():
            true, guess = target[scene, entity], predicted[scene, slot][:, self.slices[name]]
            if name in self.ids:
                found[name] = (guess.argmax(1) == true).double().mean().item()
            else:
                residual, spread = (true - guess).double().square().sum(0), (true - true.mean(0)).double()
                total = spread.square().sum(0)
                found[name] = (1 - residual / total.where(total > 0, torch.nan)).mean().item()
        return found


def _network(inputs: int, outputs: int, hidden_layers: int, hidden_size: int) -> nn.Sequential:
    sizes = [inputs, *[hidden_size] * hidden_layers]
    hidden = [layer for pair in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(*pair), nn.LeakyReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))


def _fit(
    network: nn.Module, columns: _Columns, train: SlotData, validation: SlotData, matching: str, training: Training
) -> None:
    def loss(data: SlotData, targets: Mapping[str, Tensor]) -> Tensor:
        cost = columns.cost(network(data.slots), targets)
        return cost[data.pairs(cost if matching == "loss" else None)].mean()

    optimiser = torch.optim.Adam(network.parameters(), training.learning_rate)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, list(training.milestones), 0.5)
    targets, held_out = columns.targets(train), columns.targets(validation)
    best, waited = float("inf"), 0
    for step, chosen in enumerate(_shuffled(len(train.slots), training), 1):
        optimiser.zero_grad()
        loss(train.take(chosen), {name: target[chosen] for name, target in targets.items()}).backward()
        optimiser.step()
        schedule.step()
        if step % training.validate_every == 0:
            with torch.no_grad():
                current = loss(validation, held_out).item()
            waited = 0 if current < best - training.min_gain else waited + 1
            best = min(best, current)
            if waited == training.patience:
                return


def _shuffled(num_scenes: int, training: Training) -> Iterator[Tensor]:
    """Indices of each step's scenes: all scenes in a new order, without the rest that fills no batch, and again."""
    size = min(training.batch_size, num_scenes)
    step = 0
    while True:
        for chosen in torch.randperm(num_scenes)[: num_scenes // size * size].split(size):
            if step == training.steps:
                return
            step += 1
            yield chosen
