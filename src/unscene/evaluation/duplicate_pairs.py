"""What the automatic rule for duplicates decides by, pair by pair, so that its thresholds can be calibrated.

`unscene.metrics.find_duplicates` stands in place of the eye of Li et al. (BMVC 2021), who looked at 100 images. Look at
as many, note in which ones an object is there twice, and compare: the rule is right as far as a threshold on each of
these measures parts the pairs that you call duplicates from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.evaluation.aligned import aligned
from unscene.evaluation.common import batches, count_scenes, decompose_options, undisturbed, usable_device
from unscene.metrics import silhouettes
from unscene.metrics.slots import cosine_similarities
from unscene.models.base import SceneModel
from unscene.scenes import Decomposition, Scenes


class SlotPair(NamedTuple):
    """Two slots of an image and the measures that have thresholds; in brackets, the rule's."""

    image: int
    first: int
    second: int
    iou: float  # of the silhouettes (at least 0.5)
    distance: float  # of the colours, mean over the pixels that both cover (at most 0.15); NaN if there are none
    similarity: float  # cosine of the latents (above 0.9, for `latent_duplicates`)
    area: float  # of the smaller silhouette, as a share of the image (at least 0.005)
    substituted: bool  # silhouettes are not those of the sigmoid


@torch.no_grad()
def duplicate_pairs(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    min_iou: float = 0.2,
    min_area: float = 0.0025,
    num_slots: int | None = None,
    iterations: int | None = None,
    batch_size: int = 32,
    limit: int = 100,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> list[SlotPair]:
    """The pairs of slots that might be duplicates in the first ``limit`` images: image by image, largest IoU first.

    These are the pairs with ``min_iou`` whose silhouettes both have ``min_area``; by default both are half of the
    rule's threshold or less, to show what it just misses. 0 and 0 give all pairs. The noise is that of `evaluate` with
    the same options, so that the images are those that it scored.

    Raises InputError for a model without mask logits, and for data that are no images.
    """
    options, device = decompose_options(model, num_slots, iterations), usable_device(device)
    found: list[SlotPair] = []
    for start, batch in batches(dataset, count_scenes(dataset, limit, batch_size, seed, "32-true"), batch_size):
        if batch["image"].ndim != 4:
            raise InputError(
                "duplicates are looked for in images; take single ones of videos and views, with Frames or Views"
            )
        with undisturbed(model, device, (seed, start), "32-true"):
            d = model.decompose(batch["image"].to(device), **options)
        if d.mask_logits is None:
            raise InputError(f"{type(model).__name__} gives no mask logits, so that its slots have no silhouettes")
        found += _measure(d, start, min_iou, min_area)
    return found


def pairs_table(pairs: Sequence[SlotPair]) -> str:
    """One line of aligned text for each pair."""
    rows = [("image", "slots", "IoU", "colour", "latent", "area", "")]
    for pair in pairs:
        numbers = f"{pair.iou:.3f}", f"{pair.distance:.3f}", f"{pair.similarity:.3f}", f"{pair.area:.4f}"
        note = "substituted" if pair.substituted else ""
        rows.append((str(pair.image), f"{pair.first}, {pair.second}", *numbers, note))
    return aligned(rows)


def _measure(d: Decomposition, start: int, min_iou: float, min_area: float) -> list[SlotPair]:
    cover, substituted = silhouettes(d.mask_logits)
    flat = cover.flatten(2).double()
    both, size = flat @ flat.mT, flat.sum(2)
    iou = both / (size.unsqueeze(1) + size.unsqueeze(2) - both).clamp_min(1)
    area = torch.minimum(size.unsqueeze(1), size.unsqueeze(2)) / flat.shape[2]
    distance, similarity = _colour_distance(d.components, flat), cosine_similarities(d.slots)
    rows = []
    for b, h, j in ((iou >= min_iou) & (area >= min_area)).triu(1).nonzero().tolist():
        numbers = (x[b, h, j].item() for x in (iou, distance, similarity, area))
        rows.append(SlotPair(start + b, h, j, *numbers, bool(substituted[b])))
    return sorted(rows, key=lambda pair: (pair.image, -pair.iou))


def _colour_distance(components: Float[Tensor, "B K C H W"], cover: Float[Tensor, "B K P"]) -> Float[Tensor, "B K K"]:
    """Length of the difference of the colours of two slots, mean over the pixels that both cover."""
    colours = components.clamp(0, 1).flatten(3).double()
    rows = []
    for h in range(cover.shape[1]):  # one slot with all others, to save memory
        apart = (colours - colours[:, [h]]).square().sum(2).sqrt()
        shared = cover * cover[:, [h]]
        rows.append((apart * shared).sum(2) / shared.sum(2))
    return torch.stack(rows, 1)
