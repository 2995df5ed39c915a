"""How good is a decomposition? Pure float64 functions, one value per image, on the device of their inputs.

Label maps are integer tensors (B, H, W) for images or (B, T, H, W) for videos; the ids need not be
dense. A video is one set of pixels, so a slot that changes its object half-way costs score.
An image in which there is nothing to measure scores NaN; means must leave it out and report n.
`unscene.metrics.aggregate.ImageMean` turns any of them into a torchmetrics metric.
"""

from unscene.metrics.clustering import clustering_accuracy, nmi
from unscene.metrics.disentanglement import dci
from unscene.metrics.duplicates import find_duplicates, latent_duplicates, percent_of_images, silhouettes, split_image
from unscene.metrics.em import confidence, em_losses, em_upper_bound
from unscene.metrics.factors import pair_with_objects, predict_factors
from unscene.metrics.importance import importance_gap
from unscene.metrics.iou import greedy_miou, match_slots, miou, segmentation_covering
from unscene.metrics.pixel import mse, mse_rgb, normal_kl
from unscene.metrics.rand_index import ari, fg_ari
from unscene.metrics.semantic import (
    confusion_matrix,
    fill_background,
    foreground_confusion,
    match_classes,
    segmentation_scores,
)
from unscene.metrics.slots import slot_similarity
from unscene.metrics.tracking import mot, slot_stability, track_counts
from unscene.metrics.video import frame_ari, frame_fg_ari, horizon_errors, running_mean, undefined_frames

__all__ = [
    "ari",
    "clustering_accuracy",
    "confidence",
    "confusion_matrix",
    "dci",
    "em_losses",
    "em_upper_bound",
    "fg_ari",
    "fill_background",
    "find_duplicates",
    "foreground_confusion",
    "frame_ari",
    "frame_fg_ari",
    "greedy_miou",
    "horizon_errors",
    "importance_gap",
    "latent_duplicates",
    "match_classes",
    "match_slots",
    "miou",
    "mot",
    "mse",
    "mse_rgb",
    "nmi",
    "normal_kl",
    "pair_with_objects",
    "percent_of_images",
    "predict_factors",
    "running_mean",
    "segmentation_covering",
    "segmentation_scores",
    "silhouettes",
    "slot_similarity",
    "slot_stability",
    "split_image",
    "track_counts",
    "undefined_frames",
]
