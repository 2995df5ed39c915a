"""Scores of a model on views of scenes: of those it sees, of those it has to imagine, and of all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from unscene import metrics
from unscene.errors import InputError
from unscene.evaluation.scores import BatchScores, image_scores
from unscene.evaluation.video import own_means
from unscene.models.base import MultiViewModel, SceneModel
from unscene.scenes import Decomposition, Scenes

PER_VIEW = ("image", "mask", "viewpoint")
OF_QUERIES = ("ari", "fg_ari", "miou", "miou_fg", "mse", "mse_rgb")  # no scores of latents, which are those of before


def are_views(batch: Scenes) -> bool:
    """Whether a batch holds several views (B, V, C, H, W) of each scene, and tells from where they are."""
    return batch["image"].ndim == 5 and "viewpoint" in batch


def view_scores(model: SceneModel, batch: Scenes, observe: int | None, options: Mapping[str, Any]) -> BatchScores:
    """Scores of each scene (B,), means over its views where they are scores of images.

    A MultiViewModel sees ``observe`` views of each scene, by default half of them, in an order drawn from torch's
    global generator; those have the scores of images, the others the same with ``query_`` before their names.
    ``rmse`` (and ``query_rmse``) is the root of ``mse_rgb``, per scene. ``scene_ari``, ``scene_fg_ari`` and
    ``scene_miou`` take all views for one image: a slot that is another object in another view costs score.
    Any other model sees every view as an image.
    """
    if not isinstance(model, MultiViewModel):
        views = _unbound(batch)
        decompositions = [model.decompose(view["image"], **options) for view in views]
        return BatchScores(_means(model, views, decompositions), decompositions[0].masks.shape[-3])
    seen, asked = _split(batch, observe)
    decomposition = model.decompose_batch(seen, **options)
    values, num_slots = _means(model, _unbound(seen), _of_views(decomposition)), decomposition.masks.shape[-3]
    segmentation = [decomposition.segmentation]
    if asked is not None:
        imagined = model.render(decomposition.slots[:, 0], asked["viewpoint"], tuple(asked["image"].shape[-2:]))
        found = _means(model, _unbound(asked), _of_views(imagined))
        values |= {f"query_{name}": found[name] for name in (*OF_QUERIES, "rmse") if name in found}
        segmentation.append(imagined.segmentation)
    if "mask" in batch:
        whole = torch.cat([part["mask"] for part in (seen, asked) if part is not None], 1), torch.cat(segmentation, 1)
        values |= {"scene_ari": metrics.ari(*whole), "scene_fg_ari": metrics.fg_ari(*whole)}
        values["scene_miou"] = metrics.miou(*whole)
    return BatchScores(values, num_slots)


def check_view_options(observe: int | None, **of_videos: int | None) -> None:
    """Raise InputError for options that make no sense with a MultiViewModel."""
    for name, value in of_videos.items():
        if value is not None:
            raise InputError(f"{name} is an option for videos, but the model takes views of scenes; leave it out")
    if observe is not None and observe < 1:
        raise InputError(f"observe is {observe}; the model needs at least 1 view to start from")


def _split(batch: Scenes, observe: int | None) -> tuple[Scenes, Scenes | None]:
    """The views to observe, and those to query, if any is left; every scene has its own order."""
    num_scenes, num_views = batch["viewpoint"].shape[:2]
    if observe is not None and observe > num_views:
        raise InputError(f"observe is {observe}, but the scenes have only {num_views} views; lower observe")
    observe = max(num_views // 2, 1) if observe is None else observe
    order = torch.rand(num_scenes, num_views).argsort(1)  # on the CPU, to be the same everywhere
    row = torch.arange(num_scenes).unsqueeze(1)
    seen, asked = (
        {name: batch[name][row, index] for name in PER_VIEW if name in batch}
        for index in (order[:, :observe], order[:, observe:])
    )
    return seen, asked if observe < num_views else None


def _means(model: SceneModel, views: Sequence[Scenes], decompositions: Sequence[Decomposition]) -> dict[str, Tensor]:
    """Scores of images, mean over the views of a scene."""
    scores = [
        image_scores(view["image"], view.get("mask"), decomposition) | model.own_scores(view, decomposition)
        for view, decomposition in zip(views, decompositions, strict=True)
    ]
    means = own_means(scores)
    return means | {"rmse": means["mse_rgb"].sqrt()}


def _unbound(batch: Scenes) -> list[Scenes]:
    """One batch of images for each view."""
    named = {name: batch[name].unbind(1) for name in PER_VIEW if name in batch}
    return [dict(zip(named, view, strict=True)) for view in zip(*named.values(), strict=True)]


def _of_views(decomposition: Decomposition) -> list[Decomposition]:
    """One Decomposition (B, K, ...) for each view."""
    named = {field.name: getattr(decomposition, field.name) for field in fields(Decomposition)}
    tensors = {name: value.unbind(1) for name, value in named.items() if isinstance(value, Tensor)}
    return [Decomposition(**dict(zip(tensors, view, strict=True))) for view in zip(*tensors.values(), strict=True)]
