"""The scores of one batch, and of all together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unscene import metrics
from unscene.metrics.tracking import TrackCounts
from unscene.scenes import Decomposition


class BatchScores(NamedTuple):
    """``values`` {metric: (B,)}; ``prediction`` {metric: (B, M)}; ``tracks``, which are pooled besides, if followed."""

    values: dict[str, Tensor]
    num_slots: int
    prediction: dict[str, Tensor] = {}
    tracks: TrackCounts | None = None


def image_scores(image: Tensor, mask: Tensor | None, decomposition: Decomposition) -> dict[str, Tensor]:
    """Each metric's value per image (B,)."""
    mse = metrics.mse(image, decomposition.reconstruction)
    scores = {
        "mse": mse,
        "mse_rgb": mse * image.shape[-3],  # `metrics.mse_rgb`
        "similarity": metrics.slot_similarity(decomposition.slots),
        "similarity_abs": metrics.slot_similarity(decomposition.slots, "absolute"),
        **duplicate_scores(decomposition),
    }
    if decomposition.slot_scale is not None:
        scores["kl"] = metrics.normal_kl(decomposition.slots, decomposition.slot_scale)
    if mask is None:
        return scores
    true, pred = mask.to(image.device), decomposition.segmentation
    return {
        "ari": metrics.ari(true, pred),
        "fg_ari": metrics.fg_ari(true, pred),
        "miou": metrics.miou(true, pred),
        "miou_fg": metrics.miou(true, pred, background=False),
        "covering": metrics.segmentation_covering(true, pred),
        "split_image": metrics.split_image(true, pred),
        **scores,
    }


def duplicate_scores(decomposition: Decomposition) -> dict[str, Tensor]:
    """1 for images with duplicates, by what slots show and by their latents; {} without mask logits."""
    if decomposition.mask_logits is None:
        return {}
    found = metrics.find_duplicates(decomposition.components, decomposition.mask_logits)
    return {
        "dup_image": found.image,
        "dup_fg_image": found.foreground,
        "dup_latent": metrics.latent_duplicates(decomposition.slots, found.filled),
        "dup_substituted": found.substituted.double(),
    }


class Scores(NamedTuple):
    """The same of all batches, as arrays (n, ...)."""

    values: dict[str, np.ndarray]
    num_slots: int
    prediction: dict[str, np.ndarray]
    tracks: TrackCounts | None

    def pooled_tracks(self) -> dict[str, float | None]:
        """MOT metrics of all videos as one, as published tables give them; None where undefined."""
        scores = self.tracks.pooled().scores()
        return {name: None if value.isnan() else value.item() for name, value in scores.items()}


def join(batches: Sequence[BatchScores]) -> Scores:
    """Scores of batches, in their order."""
    followed = batches[0].tracks is not None
    return Scores(
        _concatenated([batch.values for batch in batches]),
        batches[0].num_slots,
        _concatenated([batch.prediction for batch in batches]),
        TrackCounts(*map(torch.cat, zip(*(batch.tracks for batch in batches), strict=True))) if followed else None,
    )


def _concatenated(parts: Sequence[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    return {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
