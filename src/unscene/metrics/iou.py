"""Intersection over union of true objects and predicted slots: matched mean, covering, and who is who.

In all of them a slot is compared with all its pixels, also those on the true background; leaving
the background out means only that it is not one of the objects that are averaged.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from unscene.errors import InputError
from unscene.metrics.contingency import Table, per_image


def miou(true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], background: bool = True) -> Float64[Tensor, "B"]:
    """Mean IoU of the true objects with their slots under the one-to-one (Hungarian) matching of largest total IoU.

    Takes integer label maps (B, H, W) or (B, T, H, W). The mean is over the objects of the image; an
    object left without slot counts 0, slots left over cost nothing. With ``background=False`` the
    foreground objects are matched against all slots: the true background (id 0) is no object, and the
    slot that a model spends on it is left over. NaN where an image has no object.
    """

    def score(table: Table) -> Tensor:
        iou, size = _objects(table, background)
        matched = torch.tensor([_matched_sum(image) for image in iou.cpu().numpy()], dtype=torch.float64)
        return matched.to(iou.device) / (size > 0).sum(1)  # 0 / 0 is the NaN of an image without object

    return per_image(score, true, pred)


def segmentation_covering(
    true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], background: bool = False, weighted: bool = True
) -> Float64[Tensor, "B"]:
    """Mean over the true objects of the best IoU that any slot has with them.

    SC of GENESIS (Engelcke et al., 2020; after Arbelaez et al., 2011): weighted by the objects' pixels;
    with ``weighted=False`` its mSC, every object alike. Slots may serve several objects. Takes integer
    label maps (B, H, W) or (B, T, H, W). NaN where an image has no object.
    """

    def score(table: Table) -> Tensor:
        iou, size = _objects(table, background)
        weight = size if weighted else (size > 0).double()
        return (weight * iou.amax(2)).sum(1) / weight.sum(1)

    return per_image(score, true, pred)


def greedy_miou(
    true: Shaped[Tensor, "B ..."],
    masks: Float[Tensor, "B K ..."],
    background: bool = True,
    threshold: float = 0.9,
) -> Float64[Tensor, " B"]:
    """Mean over the true objects of the best IoU of any slot, as the code of MulMON (Li et al., 2020) computes it.

    A slot has the pixels where its mask is above ``threshold``, and may serve several objects; IoUs up to 0.05 count 0,
    and 1e-6 is added to intersection and union. Never below `miou` of the same hard masks, but for the first of these:
    do not mix the two in one table. Takes label maps (B, H, W); their code gives it one-hot masks of the argmax.
    NaN where an image has no object.
    """
    if masks.ndim != 4 or masks.shape[:1] + masks.shape[2:] != true.shape:
        raise InputError(
            f"masks {tuple(masks.shape)} do not fit true {tuple(true.shape)}; they must be (B, K, H, W) and (B, H, W)"
        )
    if not 0.5 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; from 0.5 to 1 a pixel belongs to one slot at most")
    largest, slot = masks.max(1)
    nobody = masks.shape[1]

    def score(table: Table) -> Tensor:
        iou, size = _objects(table, background, smoothing=1e-6)
        best = (iou * (table.pred_ids < nobody)).amax(2)
        return torch.where((best > 0.05) & (size > 0), best, 0.0).sum(1) / (size > 0).sum(1)

    return per_image(score, true, slot.masked_fill(largest <= threshold, nobody))


def match_slots(
    true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], num_objects: int | None = None
) -> Int64[Tensor, "B N"]:
    """For each true id the predicted id that has most of its pixels; -1 where the image has no such object.

    Entry 0 is the background, as in the ``factors`` of Scenes; N is ``num_objects``, or else the largest
    id plus 1. Not one-to-one: two objects that a model paints with one slot both get that slot. This is
    the matching by mask overlap of IODINE's factor prediction (Greff et al., 2019).
    """
    highest = int(true.long().max())  # long: torch has no max of uint16
    if num_objects is None:
        num_objects = highest + 1
    elif num_objects <= highest:
        raise InputError(
            f"true has the id {highest} but num_objects is {num_objects}; it must count the background too"
        )

    def match(table: Table) -> Tensor:
        slot = table.pred_ids[table.counts.argmax(2)].masked_fill(table.counts.sum(2) == 0, -1)
        slots = slot.new_full((len(slot), num_objects), -1)
        slots[:, table.true_ids] = slot
        return slots

    return per_image(match, true, pred)


def _objects(
    table: Table, background: bool, smoothing: float = 0.0
) -> tuple[Float64[Tensor, "B n K"], Float64[Tensor, "B n"]]:
    """IoU of each chosen object with each slot, and the objects' sizes in pixels, 0 if not in the image."""
    counts = table.counts.double()
    true_size, pred_size = counts.sum(2, keepdim=True), counts.sum(1, keepdim=True)
    union = (true_size + pred_size - counts).clamp(min=1)  # neither in the image: 0
    iou = (counts + smoothing) / (union + smoothing)
    chosen = (table.true_ids != 0) | background
    return iou[:, chosen], true_size[:, chosen, 0]


def _matched_sum(iou: np.ndarray) -> float:
    from scipy.optimize import linear_sum_assignment  # here, because importing it takes longer than the rest

    return float(iou[linear_sum_assignment(iou, maximize=True)].sum())
