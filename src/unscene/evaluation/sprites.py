"""Scores of sprite models: do sprites stand for classes of objects? Of pixels, of whole images, of the foreground.

As in DTI-Sprites (Monnier et al., ICCV 2021): all pixels or images of a dataset are counted together, and sprites are
matched with classes. True classes are the distinct values of factors of the visible objects. A model gives the label
maps of its sprites (`semantic`: (B, C, H, W) -> (B, H, W), 0 the background and k + 1 sprite k), or the sprite of each
image (`cluster`: -> (B,)), or both.

The ``options`` of all functions are ``batch_size``, ``limit``, ``seed``, ``device`` and ``progress`` of
`unscene.evaluation.evaluate`; with the same ones they see the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from unscene import metrics
from unscene.errors import InputError
from unscene.evaluation.aligned import aligned, number
from unscene.evaluation.class_counts import ImageCounter, PixelCounter, named
from unscene.evaluation.common import batches, count_scenes, undisturbed, usable_device
from unscene.models.base import SceneModel
from unscene.scenes import Scenes

Scenery = Dataset | Sequence[Scenes]
FOREGROUND = "foreground"  # instead of factors: all objects are one class


def class_scores(
    model: SceneModel, dataset: Scenery, classes: Sequence[str], **options: Any
) -> dict[str, dict[str, float | int | None]]:
    """All that a model and a dataset allow, in one pass: {"semantic": scores, "clustering": scores}.

    ``classes`` names factors, or is only "foreground": then it is {"cosegmentation": scores}. Semantic scores need
    masks, clustering scores a model of one layer.

    Raises InputError for a model that has neither `semantic` nor `cluster`, and as the functions below.
    """
    if list(classes) == [FOREGROUND]:
        return {"cosegmentation": cosegmentation_scores(model, dataset, **options)}
    clusters = hasattr(model, "cluster") and getattr(model, "num_layers", 1) == 1
    counters: dict[str, PixelCounter | ImageCounter] = {}
    if not clusters or (hasattr(model, "semantic") and len(dataset) and "mask" in dataset[0]):
        counters["semantic"] = PixelCounter(model, classes)
    if clusters:
        counters["clustering"] = ImageCounter(model, classes)
    _count(model, dataset, list(counters.values()), **options)
    return {name: counter.scores() for name, counter in counters.items()}


def class_table(scores: Mapping[str, Mapping[str, float | int | None]]) -> str:
    """What `class_scores` found as aligned text, one score per line."""
    return aligned([(f"{of} {name}", number(value)) for of, found in scores.items() for name, value in found.items()])


def semantic_scores(
    model: SceneModel, dataset: Scenery, factors: Sequence[str], **options: Any
) -> dict[str, float | int | None]:
    """`unscene.metrics.segmentation_scores` of all pixels; the ``_fg`` ones without row and column 0.

    ``num_classes`` and ``num_clusters`` count the background; None is what is undefined. Raises InputError for a model
    without `semantic`, data without masks, and factors that the data lacks or that are no classes.
    """
    counter = PixelCounter(model, factors)
    _count(model, dataset, [counter], **options)
    return counter.scores()


def cosegmentation_scores(model: SceneModel, dataset: Scenery, **options: Any) -> dict[str, float | int | None]:
    """``accuracy``, ``class_accuracy`` and ``miou`` of foreground against background; see `semantic_scores`."""
    counter = PixelCounter(model, ())
    _count(model, dataset, [counter], **options)
    confusion = metrics.foreground_confusion(counter.confusion())
    return named(metrics.segmentation_scores(confusion))


def cluster_scores(
    model: SceneModel, dataset: Scenery, factors: Sequence[str] = ("class",), **options: Any
) -> dict[str, float | int | None]:
    """``accuracy`` and ``nmi`` of images that show one object each; see `unscene.metrics.clustering_accuracy`.

    The clusters are the sprites, and the empty one if it won an image. Raises InputError for a model without `cluster`,
    for images with no object or several, and for factors that the data lacks or that are no classes.
    """
    counter = ImageCounter(model, factors)
    _count(model, dataset, [counter], **options)
    return counter.scores()


@torch.no_grad()
def _count(
    model: SceneModel,
    dataset: Scenery,
    counters: Sequence[PixelCounter | ImageCounter],
    *,
    batch_size: int = 32,
    limit: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Show the first ``limit`` images to all counters."""
    num_scenes, device = count_scenes(dataset, limit, batch_size, seed, "32-true"), usable_device(device)
    for start, batch in batches(dataset, num_scenes, batch_size):
        if batch["image"].ndim != 4:
            raise InputError("sprites are scored on images, but the dataset holds videos or views; choose another")
        with undisturbed(model, device, (seed, start), "32-true"):
            for counter in counters:
                counter.add(model, batch | {"image": batch["image"].to(device)})
        if progress is not None:
            progress(start + len(batch["image"]), num_scenes)
