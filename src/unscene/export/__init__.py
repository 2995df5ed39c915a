"""Decompositions, predictions and views as files: what `unscene decompose`, `predict` and `render` write."""

from unscene.export.common import fixed_size
from unscene.export.images import export_decompositions, read_image
from unscene.export.prediction import export_prediction
from unscene.export.video import export_video, is_video
from unscene.export.views import export_views

__all__ = [
    "export_decompositions",
    "export_prediction",
    "export_video",
    "export_views",
    "fixed_size",
    "is_video",
    "read_image",
]
