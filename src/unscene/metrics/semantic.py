"""Semantic segmentation without labels in training: clusters of pixels are matched with classes, then scored.

All pixels of a dataset are counted in one confusion matrix (N, K), class against cluster, and every score is a
function of it. Row and column 0 are the background. As in DTI-Sprites (Monnier et al., ICCV 2021), whose fill rule for
ARI over the foreground is here too.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from unscene.errors import InputError


class SegmentationScores(NamedTuple):
    """Scores of a whole dataset, each in [0, 1]; NaN if nothing was counted."""

    accuracy: float  # share of the pixels
    class_accuracy: float  # recall of a class, mean over the classes
    miou: float  # mean over the classes


def confusion_matrix(
    true: Shaped[Tensor, "..."], pred: Shaped[Tensor, "..."], num_classes: int, num_clusters: int
) -> Int64[Tensor, "N K"]:
    """How many pixels of class n lie in cluster k, for integer labels of any shape; those of batches add up.

    Raises InputError for labels of two shapes, and for those that are no integers or lie outside [0, N) and [0, K).
    """
    if true.shape != pred.shape:
        raise InputError(
            f"true {tuple(true.shape)} and pred {tuple(pred.shape)} must have one shape; resize one of them"
        )
    for name, labels, size in (("true", true, num_classes), ("pred", pred, num_clusters)):
        if labels.is_floating_point() or labels.is_complex():
            raise InputError(f"{name} must hold integer labels, got {labels.dtype}; turn soft masks into labels first")
        low, high = (int(bound) for bound in labels.long().aminmax()) if labels.numel() else (0, 0)
        if low < 0 or high >= size:
            raise InputError(
                f"{name} has labels from {low} to {high}, but they must lie in 0 to {size - 1}; "
                "count the background as label 0, and all classes and clusters"
            )
    cell = true.long() * num_clusters + pred.long()
    return torch.bincount(cell.flatten(), minlength=num_classes * num_clusters).view(num_classes, num_clusters)


def match_classes(confusion: Int64[Tensor, "N K"]) -> Int64[Tensor, " N"]:
    """The cluster of every class: one to one, with the most pixels in all (Hungarian algorithm); -1 for none.

    With more clusters than classes some clusters stay without class, with fewer some classes without cluster.
    """
    from scipy.optimize import linear_sum_assignment  # here, because importing it takes longer than the rest

    classes, clusters = linear_sum_assignment(confusion.cpu().numpy(), maximize=True)
    matched = torch.full((len(confusion),), -1, dtype=torch.int64)
    matched[torch.from_numpy(classes)] = torch.from_numpy(clusters)
    return matched.to(confusion.device)


def segmentation_scores(confusion: Int64[Tensor, "N K"], background: bool = True) -> SegmentationScores:
    """Accuracy of pixels, mean accuracy of classes and mean IoU under `match_classes`.

    The background is matched like any class, and may so get another cluster than 0. With ``background=False`` row and
    column 0 are dropped before the matching, which forgives foreground that was taken for background.
    The numbers of classes and clusters may differ: pixels in clusters without class are wrong, and a class without
    cluster has accuracy and IoU 0. Means are over the classes that have pixels.
    """
    counts = confusion if background else confusion[1:, 1:]
    if 0 in counts.shape:
        return SegmentationScores(torch.nan, torch.nan, torch.nan)
    cluster = match_classes(counts)
    matched = cluster >= 0
    size = counts.sum(1).double()
    right = counts.gather(1, cluster.clamp(min=0).unsqueeze(1)).squeeze(1).double() * matched
    cluster_size = counts.sum(0)[cluster.clamp(min=0)] * matched
    occurs = size > 0
    recall, iou = right / size, right / (size + cluster_size - right)
    return SegmentationScores(
        (right.sum() / counts.sum()).item(), recall[occurs].mean().item(), iou[occurs].mean().item()
    )


def foreground_confusion(confusion: Int64[Tensor, "N K"]) -> Int64[Tensor, "2 2"]:
    """All classes but the background as one, and all clusters but 0: `segmentation_scores` of it is cosegmentation.

    Its accuracy is also the mean of the accuracies of the images if they have one size. The two clusters are matched
    too, so that a model that takes the background for the object scores all the same.
    """
    row, column = (torch.arange(n, device=confusion.device).clamp(max=1) for n in confusion.shape)
    by_row = confusion.new_zeros(2, confusion.shape[1]).index_add(0, row, confusion)
    return confusion.new_zeros(2, 2).index_add(1, column, by_row)


def fill_background(
    labels: Shaped[Tensor, "B H W"], colours: Float[Tensor, "..."], image: Float[Tensor, "B C H W"]
) -> Int64[Tensor, "B H W"]:
    """Labels 0 to L in which every pixel of label 0 goes to the layer whose colour is closest at that pixel.

    ``colours`` are the unmasked appearances of layers 1 to L over the whole image; the distance is the squared one,
    summed over channels, and the first of equal layers wins. DTI-Sprites does so before it computes `fg_ari`, where
    "closest" means in colour, not in space: the score then says nothing of what was taken for background.
    """
    if colours.ndim != 5 or colours.shape[:1] + colours.shape[2:] != image.shape:
        raise InputError(
            f"colours {tuple(colours.shape)} do not fit the image {tuple(image.shape)}; they must be (B, L, C, H, W) "
            "and (B, C, H, W)"
        )
    distance = (colours - image.unsqueeze(1)).square().sum(2)
    return torch.where(labels == 0, distance.argmin(1) + 1, labels.long())
