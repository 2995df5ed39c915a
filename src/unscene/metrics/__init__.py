"""How good is a decomposition? Pure float64 functions, one value per image, on the device of their inputs.

Label maps are integer tensors (B, H, W) for images or (B, T, H, W) for videos; the ids need not be
dense. A video is one set of pixels, so a slot that changes its object half-way costs score.
An image in which there is nothing to measure scores NaN; means must leave it out and report n.
`unscene.metrics.aggregate.ImageMean` turns any of them into a torchmetrics metric.
"""

from unscene.metrics.em import confidence, em_losses, em_upper_bound
from unscene.metrics.factors import pair_with_objects, predict_factors
from unscene.metrics.iou import match_slots, miou, segmentation_covering
from unscene.metrics.pixel import mse, normal_kl
from unscene.metrics.rand_index import ari, fg_ari
from unscene.metrics.tracking import mot, slot_stability, track_counts
from unscene.metrics.video import frame_ari, frame_fg_ari, horizon_errors, running_mean, undefined_frames

__all__ = [
    "ari",
    "confidence",
    "em_losses",
    "em_upper_bound",
    "fg_ari",
    "frame_ari",
    "frame_fg_ari",
    "horizon_errors",
    "match_slots",
    "miou",
    "mot",
    "mse",
    "normal_kl",
    "pair_with_objects",
    "predict_factors",
    "running_mean",
    "segmentation_covering",
    "slot_stability",
    "track_counts",
    "undefined_frames",
]
