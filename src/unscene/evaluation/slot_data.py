"""What a model's slots are, beside what is true of the objects they stand for.

Shapes: S scenes, K slots, N objects with the background first, D latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.evaluation.common import batches, count_scenes, undisturbed, usable_device
from unscene.models.base import SceneModel
from unscene.scenes import Scenes


class SlotData(NamedTuple):
    """What a model makes of scenes, and what is true of them."""

    slots: Float[Tensor, "S K D"]
    overlap: Float[Tensor, "S N K"]  # cosine similarity of true and predicted masks
    present: Bool[Tensor, "S N"]  # objects with a visible pixel; the background is none
    factors: dict[str, Shaped[Tensor, "S N ..."]]

    def take(self, scenes: slice | Tensor) -> SlotData:
        """Some of the scenes."""
        return SlotData(*(part[scenes] for part in self[:3]), {name: f[scenes] for name, f in self.factors.items()})


@torch.no_grad()
def collect_slots(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    num_slots: int | None = None,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> SlotData:
    """Decompose images that have masks and factors; the noise is that of `evaluate` with the same options."""
    options = {} if num_slots is None else {"num_slots": num_slots}
    device, parts = usable_device(device), []
    for start, batch in batches(dataset, count_scenes(dataset, limit, batch_size, seed, "32-true"), batch_size):
        if not batch.get("factors") or "mask" not in batch or batch["image"].ndim != 4:
            raise InputError("factor prediction needs images with masks and factors; choose a dataset that has them")
        with undisturbed(model, device, (seed, start), "32-true"):
            d = model.decompose(batch["image"].to(device), **options)
        factors = batch["factors"]
        true = F.one_hot(batch["mask"].long(), next(iter(factors.values())).shape[1]).movedim(-1, 1).flatten(2).float()
        pred = d.masks.float().cpu().flatten(2)
        overlap = F.normalize(true, dim=2) @ F.normalize(pred, dim=2).mT
        present = true.sum(2) > 0
        present[:, 0] = False
        parts.append(SlotData(d.slots.float().cpu(), overlap, present, factors))
    return SlotData(
        *(torch.cat(part) for part in list(zip(*parts, strict=True))[:3]),
        {name: torch.cat([part.factors[name] for part in parts]) for name in parts[0].factors},
    )
