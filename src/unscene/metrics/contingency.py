"""Contingency tables: how many pixels of each true object lie in each predicted slot.

Every metric of two label maps is a function of this small table, so pixels are read once.
Shapes: B images, P pixels (of all frames), N true ids, K predicted ids.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from unscene.errors import InputError

MAX_PIXELS = 2**20  # per chunk: 8 MiB for each int64 temporary
MAX_CELLS = 2**26  # per chunk: 512 MiB of counts
FEW_IDS = 64  # ids below this are used as they are; counting empty rows is cheaper than sorting pixels


class Table(NamedTuple):
    """Pixel counts of a few images; an id that an image lacks has a row or column of zeros there."""

    counts: Int64[Tensor, "B N K"]
    true_ids: Int64[Tensor, "N"]
    pred_ids: Int64[Tensor, "K"]


def per_image(
    function: Callable[[Table], Shaped[Tensor, "b ..."]], true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."]
) -> Shaped[Tensor, "B ..."]:
    """Apply ``function`` (table of b images -> (b, ...)) to all images of two label maps (B, ...), in chunks.

    Raises InputError unless both are integer label maps of one shape, with ids >= 0.
    """
    _check(true, pred)
    return torch.cat([function(table) for table in _tables(true.flatten(1), pred.flatten(1))])


def _check(true: Tensor, pred: Tensor) -> None:
    if true.shape != pred.shape or true.ndim < 2 or 0 in true.shape:
        raise InputError(
            f"label maps must be (B, H, W) or (B, T, H, W), not empty and of one shape, got true {tuple(true.shape)} "
            f"and pred {tuple(pred.shape)}; turn masks over slots into a label map with argmax"
        )
    for name, labels in (("true", true), ("pred", pred)):
        if labels.is_floating_point() or labels.is_complex():
            raise InputError(f"{name} must hold integer ids, got {labels.dtype}; turn soft masks into ids with argmax")
    if true.device != pred.device:
        raise InputError(f"true is on {true.device} but pred on {pred.device}; move one of them")


def _tables(true: Tensor, pred: Tensor) -> Iterator[Table]:
    """Tables of label maps (B, P), several images at a time as far as memory allows."""
    rows = max(1, MAX_PIXELS // true.shape[1])
    for true_part, pred_part in zip(true.split(rows), pred.split(rows), strict=True):
        true_ids, true_index = _dense(true_part.long(), "true")
        pred_ids, pred_index = _dense(pred_part.long(), "pred")
        images, cells = len(true_part), len(true_ids) * len(pred_ids)
        if images * cells <= MAX_CELLS:
            counts = _count(true_index, pred_index, len(true_ids), len(pred_ids))
            yield Table(counts, true_ids, pred_ids)
        elif images > 1:  # ids that are unique to an image swell the table of many images
            for true_image, pred_image in zip(true_part.split(images // 2), pred_part.split(images // 2), strict=True):
                yield from _tables(true_image, pred_image)
        else:
            raise InputError(
                f"an image has {len(true_ids)} true and {len(pred_ids)} predicted ids, too many for a table; "
                "are these label maps?"
            )


def _dense(labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The ids that may occur, ascending, and the labels as indices into them."""
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0:
        raise InputError(f"{name} has the id {low}; ids must be >= 0, with 0 for the background")
    if high < FEW_IDS:
        return torch.arange(high + 1, device=labels.device), labels
    ids, indices = torch.unique(labels, return_inverse=True)
    return ids, indices


def _count(true: Tensor, pred: Tensor, num_true: int, num_pred: int) -> Tensor:
    image = torch.arange(len(true), device=true.device).unsqueeze(1)
    cell = (image * num_true + true) * num_pred + pred
    counts = torch.bincount(cell.flatten(), minlength=len(true) * num_true * num_pred)
    return counts.view(len(true), num_true, num_pred)
