"""Clustering of whole images against true classes: accuracy and normalised mutual information.

Labels are integers, one per image, (M,); the ids need not be dense.
"""

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from unscene.errors import InputError
from unscene.metrics.semantic import confusion_matrix, match_classes


def clustering_accuracy(
    true: Shaped[Tensor, " M"], pred: Shaped[Tensor, "..."], num_clusters: int | None = None
) -> float:
    """Share of the images whose cluster stands for their class.

    With as many clusters as classes every class gets its own cluster, so that the most images are right (Hungarian
    algorithm); otherwise a cluster stands for the class that has most of its images. ``num_clusters`` counts those that
    a model has, also if some are empty; by default those that occur in ``pred``. Classes are those that occur in
    ``true``. As in DTI-Sprites (Monnier et al., ICCV 2021).

    More clusters make the majority rule easier: compare only numbers of the same number of clusters.
    """
    counts = _table(true, pred)
    num_classes, used = counts.shape
    num_clusters = used if num_clusters is None else num_clusters
    if num_clusters < used:
        raise InputError(f"num_clusters is {num_clusters}, but pred has {used} clusters; count all of them")
    if num_clusters != num_classes:
        return counts.amax(0).sum().item() / len(true)
    cluster = match_classes(counts)
    matched = cluster >= 0  # not all, if the model left a cluster empty
    return counts[matched, cluster[matched]].sum().item() / len(true)


def nmi(true: Shaped[Tensor, " M"], pred: Shaped[Tensor, "..."]) -> float:
    """Mutual information of two clusterings, as a share of the arithmetic mean of their entropies; from 0 to 1.

    Two clusterings that both put all images together are equal and score 1.
    """
    joint = _table(true, pred).cpu().numpy() / len(true)
    of_true, of_pred, both = (_entropy(p) for p in (joint.sum(1), joint.sum(0), joint.ravel()))
    if joint.size == 1:
        return 1.0
    return float(np.clip(2 * (of_true + of_pred - both) / (of_true + of_pred), 0.0, 1.0))


def _entropy(p: np.ndarray) -> float:
    from scipy.special import entr

    return float(entr(p).sum())


def _table(true: Tensor, pred: Tensor) -> Int64[Tensor, "N K"]:
    """How many images of each class that occurs lie in each cluster that occurs."""
    if true.shape != pred.shape or not len(true):
        raise InputError(
            "true and pred must be labels (M,) of the same images, at least one, "
            f"got {tuple(true.shape)} and {tuple(pred.shape)}"
        )
    for name, labels in (("true", true), ("pred", pred)):
        if labels.is_floating_point() or labels.is_complex():
            raise InputError(f"{name} must hold integer labels, got {labels.dtype}; take the argmax of scores first")
    (classes, true), (clusters, pred) = (torch.unique(labels.long(), return_inverse=True) for labels in (true, pred))
    return confusion_matrix(true, pred, len(classes), len(clusters))
