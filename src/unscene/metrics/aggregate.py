"""A torchmetrics shell around the pure functions: mean and spread over all images of all processes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ImageMean(Metric):
    """Mean over images of a per-image metric, e.g. ``ImageMean(fg_ari)`` or ``ImageMean(miou, background=False)``.

    ``update`` takes what the function takes; ``compute`` gives the mean, so that a Lightning module can
    log the metric itself; `statistics` adds the standard deviation and the number of images. NaN
    (nothing to measure) is left out. Images weigh alike, however batches and processes share them.
    """

    full_state_update = False

    def __init__(self, function: Callable[..., Tensor], **arguments: Any) -> None:
        super().__init__()
        self.function = partial(function, **arguments)
        for name in ("total", "squares", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, *inputs: Tensor) -> None:
        values = self.function(*inputs)
        values = values[~values.isnan()].double()
        self.total += values.sum()
        self.squares += values.square().sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        return self.total / self.count  # NaN before the first image

    def statistics(self) -> dict[str, float]:
        """``mean``, ``std`` (population, over images) and ``n``, of all processes."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            mean = self.total / self.count
            variance = (self.squares / self.count - mean.square()).clamp(min=0)
            return {"mean": mean.item(), "std": variance.sqrt().item(), "n": int(self.count)}
