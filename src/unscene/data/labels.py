"""Labels of whole images as factors of Scenes: an image is a background, entity 0, and one object, entity 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def class_factor(labels: Sequence[int] | Tensor) -> dict[str, Tensor]:
    """``factors`` of images of the classes ``labels``, counted from 0: ``class`` (B, 2) int64, [0, label + 1]."""
    classes = torch.as_tensor(labels, dtype=torch.int64) + 1
    return {"class": torch.stack([torch.zeros_like(classes), classes], dim=1)}
