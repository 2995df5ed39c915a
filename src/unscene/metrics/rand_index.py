"""Adjusted Rand index: do two label maps put the same pairs of pixels together?

Hubert and Arabie, "Comparing partitions", 1985. 1 for equal partitions whatever their ids,
0 on average for independent ones, negative for worse than chance.
"""

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from unscene.metrics.contingency import Table, per_image


def ari(true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."]) -> Float64[Tensor, "B"]:
    """Adjusted Rand index over all pixels, background included.

    Takes integer label maps (B, H, W) or (B, T, H, W). Two partitions that are equal score 1, also
    when both have a single cluster or the image a single pixel.
    """
    return per_image(_ari, true, pred)


def fg_ari(true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."]) -> Float64[Tensor, "B"]:
    """Adjusted Rand index over the pixels whose true id is not 0; what a model does with the background is ignored.

    The score of the field since Greff et al. (2019). An image without foreground scores NaN
    (other code bases count it as 1, which flatters the mean). An image with a single true object
    scores 1 if one slot has all of it and 0 otherwise.
    """
    return per_image(lambda table: _ari(Table(table.counts[:, table.true_ids != 0], *table[1:])), true, pred)


def _ari(table: Table) -> Float64[Tensor, "B"]:
    # Ordered pairs of pixels are counted in int64, exact up to 3e9 pixels. Products of two such counts
    # overflow int64 from 2^16 pixels on; in float64 this form of them, unlike
    # (index - expected) / (maximum - expected), has no cancellation in the denominator.
    counts = table.counts
    total, squares = counts.sum((1, 2)), counts.square().sum((1, 2))
    same_true, same_pred = counts.sum(2).square().sum(1), counts.sum(1).square().sum(1)
    together = (squares - total).double()
    split = (same_true - squares).double()  # together in true, apart in pred
    merged = (same_pred - squares).double()
    apart = (total.square() - same_true - same_pred + squares).double()
    numerator = 2 * (together * apart - split * merged)
    denominator = (together + split) * (split + apart) + (together + merged) * (merged + apart)
    score = torch.where((split == 0) & (merged == 0), 1.0, numerator / denominator)
    return score.masked_fill(total == 0, torch.nan)
