"""Does every object keep its slot? CLEAR MOT metrics with slots as tracks, and a plain share.

Bernardin and Stiefelhagen, "Evaluating multiple object tracking performance", 2008, with the choices that
Weis et al., "Benchmarking unsupervised object representations for video sequences", 2021, made for slots.
Accumulation is that of motmetrics 1.4: an object keeps the slot it was last matched to as long as that fits,
also after a gap; what is left is matched by IoU; a match to another slot than the last one is a switch.

Shapes: B videos, T frames, N true ids, K slots. Label maps are (B, T, H, W), integers.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from unscene.metrics.contingency import Table, per_image
from unscene.metrics.video import check_videos

MOSTLY = 0.8  # share of its frames in which an object must be found, to be mostly detected or tracked
BACKGROUND_IOU = 0.2  # with the true background; slots above it are background too


class TrackCounts(NamedTuple):
    """What happened to the true objects of B videos, (B,) each; sums of them are counts of several videos."""

    objects: Int64[Tensor, "B"]  # in how many frames, summed over the objects
    matches: Int64[Tensor, "B"]  # without the switches
    misses: Int64[Tensor, "B"]
    switches: Int64[Tensor, "B"]
    false_positives: Int64[Tensor, "B"]
    overlap: Float64[Tensor, "B"]  # IoU, summed over matches and switches
    tracks: Int64[Tensor, "B"]  # different objects
    detected: Int64[Tensor, "B"]  # of these in 80 % of their frames, by whatever slot
    tracked: Int64[Tensor, "B"]  # the same, frames in which the slot switched not counted

    def scores(self) -> dict[str, Float64[Tensor, "B"]]:
        """``mota``, ``motp`` and the shares of objects, NaN where there is nothing to share."""
        objects = self.objects.double()
        wrong = self.misses + self.switches + self.false_positives
        return {
            "mota": torch.where(objects > 0, 1 - wrong / objects, torch.nan),
            "motp": self.overlap / (self.matches + self.switches),
            "match": self.matches / objects,
            "miss": self.misses / objects,
            "id_switch": self.switches / objects,
            "false_positive": torch.where(objects > 0, self.false_positives / objects, torch.nan),
            "mostly_detected": self.detected.double() / self.tracks,
            "mostly_tracked": self.tracked.double() / self.tracks,
        }

    def pooled(self) -> "TrackCounts":
        """The counts of all videos together, (1,), as published tables score them."""
        return TrackCounts(*(count.sum(0, keepdim=True) for count in self))


def mot(
    true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], iou_threshold: float = 0.5, ignored: int = 5
) -> dict[str, Float64[Tensor, "B"]]:
    """MOT metrics of each video, as shares (published tables print percent).

    ``mota`` (1 - misses, switches and false positives per object), ``motp`` (mean IoU of the matches), ``match``,
    ``miss``, ``id_switch``, ``false_positive`` (per true object and frame), ``mostly_detected`` and
    ``mostly_tracked`` (share of objects that are found in 80 % of their frames; a frame in which the slot switched
    is detected, not tracked). NaN in a video without objects, and ``motp`` in one without matches.
    """
    return track_counts(true, pred, iou_threshold, ignored).scores()


def track_counts(
    true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], iou_threshold: float = 0.5, ignored: int = 5
) -> TrackCounts:
    """Follow the objects of each video through its frames.

    In each frame, masks of up to ``ignored`` pixels are dropped, true and predicted; so are slots whose IoU with
    the true background is above 0.2. Object and slot match if their IoU is at least ``iou_threshold``.
    """
    check_videos(true, pred)
    rows = [_follow(*_ious(*video, ignored), iou_threshold) for video in zip(true, pred, strict=True)]
    return TrackCounts(*(torch.tensor(column, device=true.device) for column in zip(*rows, strict=True)))


def slot_stability(true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."]) -> Float64[Tensor, "B"]:
    """Share of its frames in which an object is in the slot in which it was last seen.

    The slot of an object is the one with most of its pixels. Counted are all frames in which a true object (id not
    0) is visible, but for its first; NaN if there is none. One slot for everything is stable too: read it beside
    FG-ARI.
    """
    check_videos(true, pred)
    shares = [_stability(_frame_counts(*video)) for video in zip(true, pred, strict=True)]
    return torch.tensor(shares, dtype=torch.float64, device=true.device)


def _stability(counts: Int64[np.ndarray, "T N K"]) -> float:
    slot, visible = counts[:, 1:].argmax(2), counts[:, 1:].sum(2) > 0
    kept = seen = 0
    for object_slot, object_visible in zip(slot.T, visible.T, strict=True):
        slots = object_slot[object_visible]
        kept, seen = kept + (slots[1:] == slots[:-1]).sum(), seen + max(len(slots) - 1, 0)
    return kept / seen if seen else float("nan")


def _frame_counts(true: Shaped[Tensor, "T H W"], pred: Shaped[Tensor, "T H W"]) -> Int64[np.ndarray, "T N K"]:
    """Pixels of object n in slot k in every frame; n = 0 is the background, whether there is any or not."""
    with_background = torch.cat([true.new_zeros(1, *true.shape[1:]), true]).long()
    true_ids, dense_true = with_background.unique(return_inverse=True)
    pred_ids, dense_pred = pred.long().unique(return_inverse=True)

    def place(table: Table) -> Tensor:
        counts = table.counts.new_zeros(len(table.counts), len(true_ids), len(pred_ids))
        counts[:, table.true_ids[:, None], table.pred_ids] = table.counts
        return counts

    return per_image(place, dense_true[1:], dense_pred).cpu().numpy()


def _ious(true: Tensor, pred: Tensor, ignored: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU of objects and slots (T, N - 1, K), and who takes part in which frame: (T, N - 1) and (T, K) bool."""
    counts = _frame_counts(true, pred)
    true_size, pred_size = counts.sum(2, keepdims=True), counts.sum(1, keepdims=True)
    iou = counts / np.maximum(true_size + pred_size - counts, 1)
    present, offered = true_size[..., 0] > ignored, pred_size[:, 0] > ignored
    background = present[:, :1] & (iou[:, 0] > BACKGROUND_IOU)
    return iou[:, 1:], present[:, 1:], offered & ~background


def _follow(iou: np.ndarray, present: np.ndarray, offered: np.ndarray, threshold: float) -> tuple[np.number, ...]:
    """The counts of one video, in the order of TrackCounts."""
    last: dict[int, int] = {}  # slot that each object was matched to last
    found, switched = np.zeros_like(present), np.zeros_like(present)
    overlap = np.float64(0)
    for t, (values, objects, slots) in enumerate(zip(iou, present, offered, strict=True)):
        fits = (values >= threshold) & objects[:, None] & slots
        for n, k in _matches(values, fits, last):
            found[t, n], switched[t, n] = True, last.get(n, k) != k
            last[n] = k
            overlap += values[n, k]
    frames, detected, tracked = present.sum(0), found.sum(0), (found & ~switched).sum(0)
    seen = frames > 0
    mostly_detected, mostly_tracked = (part[seen] / frames[seen] >= MOSTLY for part in (detected, tracked))
    return (
        frames.sum(),
        tracked.sum(),
        (frames - detected).sum(),
        switched.sum(),
        offered.sum() - detected.sum(),
        overlap,
        seen.sum(),
        mostly_detected.sum(),
        mostly_tracked.sum(),
    )


def _matches(iou: np.ndarray, fits: np.ndarray, last: dict[int, int]) -> list[tuple[int, int]]:
    """Pairs (object, slot) of one frame: first those that go on, then the largest IoU among the others."""
    from scipy.optimize import linear_sum_assignment  # here, because importing it takes longer than the rest

    kept: list[tuple[int, int]] = []
    for n in range(len(fits)):  # in the order of the ids, as motmetrics does; two objects may have had one slot
        k = last.get(n)
        if k is not None and fits[n, k] and k not in {slot for _, slot in kept}:
            kept.append((n, k))
    free = fits.copy()
    for n, k in kept:
        free[n], free[:, k] = False, False
    rows, columns = linear_sum_assignment(np.where(free, iou, -free.size - 1.0), maximize=True)
    return kept + [(n, k) for n, k in zip(rows.tolist(), columns.tolist(), strict=True) if free[n, k]]
