"""What a model's slots are, beside what is true of the objects they stand for.

Shapes: S scenes, K slots, N objects with the background first, D latent, M pairs of an object and its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.evaluation.common import batches, count_scenes, undisturbed, usable_device
from unscene.evaluation.views import are_views
from unscene.models.base import MultiViewModel, SceneModel
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

    def pairs(self, cost: Float[Tensor, "S N K"] | None = None) -> tuple[Int64[Tensor, " M"], ...]:
        """Scene, object and slot of all pairs: one to one within a scene (Hungarian algorithm), at least total cost.

        Without ``cost``, pairs are those of the largest total overlap. Objects that are not present, and those beyond
        the number of slots, have no pair.
        """
        from scipy.optimize import linear_sum_assignment

        costs = (-self.overlap if cost is None else cost.detach()).numpy()
        pairs = []
        for scene, entity in enumerate(present.nonzero()[0] for present in self.present.numpy()):
            row, slot = linear_sum_assignment(costs[scene, entity])
            pairs.append((row * 0 + scene, entity[row], slot))
        scene, entity, slot = (torch.from_numpy(np.concatenate(part)) for part in zip(*pairs, strict=True))
        return scene, entity, slot


@torch.no_grad()
def collect_slots(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    num_slots: int | None = None,
    projected: bool = False,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> SlotData:
    """Decompose images that have masks and factors; the noise is that of `evaluate` with the same options.

    A MultiViewModel takes scenes of several views. It sees all views of a scene, and its slots, which are the same in
    all of them, overlap with the objects of all views together: an object is present if any view shows it.
    With ``projected`` every view is an entry of its own instead, in the order of `unscene.data.Views`: its slots are
    what ``model.project(slots, viewpoint)`` makes of them for that view, its overlap is that of that view alone.

    Raises InputError for data without masks or factors, for videos, and for views that the model cannot take.
    """
    _check_project(model, projected)
    options = {} if num_slots is None else {"num_slots": num_slots}
    device, parts = usable_device(device), []
    for start, batch in batches(dataset, count_scenes(dataset, limit, batch_size, seed, "32-true"), batch_size):
        _check_batch(model, batch)
        seen = {name: batch[name].to(device) for name in ("image", "viewpoint") if name in batch}
        with undisturbed(model, device, (seed, start), "32-true"):
            d = model.decompose_batch(seen, **options)
            slots = d.slots[:, 0] if d.slots.ndim == 4 else d.slots
            slots = model.project(slots, seen["viewpoint"]).flatten(0, 1) if projected else slots
        masks, mask, factors = d.masks.float().cpu(), batch["mask"], batch["factors"]
        if projected:
            factors = {name: values.repeat_interleave(mask.shape[1], 0) for name, values in factors.items()}
            masks, mask = masks.flatten(0, 1), mask.flatten(0, 1)
        overlap, present = _overlap(mask, masks, next(iter(factors.values())).shape[1])
        parts.append(SlotData(slots.float().cpu(), overlap, present, factors))
    return SlotData(
        *(torch.cat(part) for part in list(zip(*parts, strict=True))[:3]),
        {name: torch.cat([part.factors[name] for part in parts]) for name in parts[0].factors},
    )


def _overlap(
    mask: Shaped[Tensor, "B ..."], masks: Float[Tensor, "B ..."], num_entities: int
) -> tuple[Float[Tensor, "B N K"], Bool[Tensor, "B N"]]:
    """Cosine similarity of label maps (B, [V,] H, W) with masks (B, [V,] K, H, W), and which objects they show."""
    true = F.one_hot(mask.long(), num_entities).movedim(-1, 1).flatten(2).float()
    pred = masks.movedim(-3, 1).flatten(2)
    present = true.sum(2) > 0
    present[:, 0] = False
    return F.normalize(true, dim=2) @ F.normalize(pred, dim=2).mT, present


def _check_project(model: SceneModel, projected: bool) -> None:
    if projected and not hasattr(model, "project"):
        raise InputError(f"{type(model).__name__} does not project slots to views; leave projected out")


def _check_batch(model: SceneModel, batch: Scenes) -> None:
    views = isinstance(model, MultiViewModel)
    if not batch.get("factors") or "mask" not in batch or batch["image"].ndim != (5 if views else 4):
        wanted = "scenes of several views" if views else "images"
        hint = "; for a model of images, take the single views with Views" if are_views(batch) else ""
        raise InputError(
            f"factor prediction needs {wanted} with masks and factors; choose a dataset that has them{hint}"
        )
