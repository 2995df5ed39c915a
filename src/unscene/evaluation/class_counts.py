"""What sprite models say of pixels and images, counted against true classes, batch by batch.

Shapes: N entities of an image (the background first) or classes, K clusters, F factors whose values make a class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from unscene import metrics
from unscene.errors import InputError
from unscene.evaluation.result import or_none
from unscene.metrics.semantic import SegmentationScores
from unscene.models.base import SceneModel
from unscene.scenes import Scenes

MOST_CLASSES = 1000  # a factor with more values, such as a position, is no class


class PixelCounter:
    """Counts pixels, class against sprite. Classes need not be known before; keys of ``rows`` sort as classes do."""

    def __init__(self, model: SceneModel, factors: Sequence[str]) -> None:
        _check_method(model, "semantic", "label maps of its sprites")
        self.factors, self.num_clusters = factors, len(model.sprites) + 1
        self.rows: dict[tuple[float, ...], Tensor] = {(0.0,): torch.zeros(self.num_clusters, dtype=torch.int64)}

    def add(self, model: SceneModel, batch: Scenes) -> None:
        if "mask" not in batch:
            raise InputError("semantic scores need masks, but the data has none; choose a dataset that has them")
        mask, pred = batch["mask"].long(), model.semantic(batch["image"]).cpu()
        num_images, highest = len(mask), int(mask.max())
        values = _values(batch, self.factors) if self.factors else torch.zeros(num_images, highest + 1, 0).double()
        num_entities = values.shape[1]
        if highest >= num_entities:
            raise InputError(f"mask has the id {highest}, but the factors describe only the ids below {num_entities}")
        owner = torch.arange(num_images)[:, None, None] * num_entities + mask  # of each pixel, over all images
        counts = metrics.confusion_matrix(owner, pred, num_images * num_entities, self.num_clusters)
        counts = counts.view(num_images, num_entities, -1)
        for image, entity in counts.sum(2).nonzero().tolist():
            key = (1.0, *values[image, entity].tolist()) if entity else (0.0,)
            self.rows[key] = self.rows.get(key, 0) + counts[image, entity]
        _check_number(len(self.rows) - 1, self.factors)

    def confusion(self) -> Int64[Tensor, "N K"]:
        """See `unscene.metrics.confusion_matrix`; the background first, then the classes in the order of values."""
        return torch.stack([row for _, row in sorted(self.rows.items())])

    def scores(self) -> dict[str, float | int | None]:
        confusion = self.confusion()
        foreground = named(metrics.segmentation_scores(confusion, background=False))
        return {
            **named(metrics.segmentation_scores(confusion)),
            **{f"{name}_fg": value for name, value in foreground.items()},
            "num_classes": confusion.shape[0],
            "num_clusters": confusion.shape[1],
        }


class ImageCounter:
    """Collects the class and the sprite of every image."""

    def __init__(self, model: SceneModel, factors: Sequence[str]) -> None:
        _check_method(model, "cluster", "a sprite for each image")
        self.factors, self.num_sprites = factors, len(model.sprites)
        self.true: list[Float64[Tensor, "B F"]] = []
        self.pred: list[Int64[Tensor, " B"]] = []

    def add(self, model: SceneModel, batch: Scenes) -> None:
        values = _values(batch, self.factors)
        self.true.append(values[torch.arange(len(values)), _only_object(batch, values.shape[1])])
        self.pred.append(model.cluster(batch["image"]).cpu())

    def scores(self) -> dict[str, float | int | None]:
        pred = torch.cat(self.pred)
        classes, true = torch.unique(torch.cat(self.true), dim=0, return_inverse=True)
        _check_number(len(classes), self.factors)
        num_clusters = max(self.num_sprites, int(pred.max()) + 1)
        return {
            "accuracy": metrics.clustering_accuracy(true, pred, num_clusters),
            "nmi": metrics.nmi(true, pred),
            "num_classes": len(classes),
            "num_clusters": num_clusters,
        }


def _values(batch: Scenes, factors: Sequence[str]) -> Float64[Tensor, "B N F"]:
    """The factors that make the class of every entity."""
    known = batch.get("factors") or {}
    columns = []
    for name in factors:
        if name not in known:
            there = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise InputError(f"the data has no factor {name!r} to take classes from; {there}")
        if known[name].flatten(1).shape[1] != known[name].shape[1]:
            raise InputError(f"factor {name!r} has several numbers per object, but a class is one; choose another")
        columns.append(known[name].flatten(1).double())
    if not columns:
        raise InputError("no factor is named; name those whose values are the classes, such as shape")
    return torch.stack(columns, 2)


def _only_object(batch: Scenes, num_entities: int) -> Int64[Tensor, " B"]:
    """The id of the object that each image shows."""
    visible = torch.ones(len(batch["image"]), num_entities, dtype=torch.bool)
    if "mask" in batch:
        visible = (batch["mask"].long().flatten(1)[..., None] == torch.arange(num_entities)).any(1)
    elif "visibility" in batch:
        visible = batch["visibility"].bool().clone()
    visible[:, 0] = False
    for count in visible.sum(1).tolist():
        if count != 1:
            raise InputError(
                f"an image shows {count} objects, but clustering is scored on images of one; choose others"
            )
    return visible.int().argmax(1)


def _check_method(model: SceneModel, method: str, what: str) -> None:
    if not hasattr(model, method):
        raise InputError(
            f"{type(model).__name__} does not give {what}, so that its classes could be scored; leave classes out, or "
            "take a model such as DTISprites"
        )


def _check_number(num_classes: int, factors: Sequence[str]) -> None:
    if num_classes > MOST_CLASSES:
        raise InputError(f"{', '.join(factors)} takes more than {MOST_CLASSES} values; choose factors with few")


def named(scores: SegmentationScores) -> dict[str, float | None]:
    """JSON-able."""
    return {name: or_none(value) for name, value in scores._asdict().items()}
