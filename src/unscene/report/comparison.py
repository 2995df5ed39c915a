"""Several models on one dataset: their scores as a table, and a page with what each makes of the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unscene.data.dataset import SceneDataset, collate
from unscene.errors import InputError
from unscene.evaluation import evaluate
from unscene.evaluation.aligned import aligned
from unscene.evaluation.common import platform_facts, undisturbed, usable_device
from unscene.evaluation.result import Evaluation
from unscene.evaluation.video import is_video
from unscene.evaluation.views import are_views
from unscene.figures import comparison_panel
from unscene.models.base import MultiViewModel, SceneModel, VideoModel
from unscene.report.facts import METRICS
from unscene.report.page import picture, write_page
from unscene.scenes import Decomposition, Scenes

SCORES = ("fg_ari", "frame_fg_ari", "ari", "frame_ari", "miou", "miou_fg", "mse", "dup_image")  # those that there are


def compare_models(
    models: Mapping[str, SceneModel],
    dataset: SceneDataset,
    path: str | Path,
    *,
    data: str,
    command: str = "",
    num_shown: int = 6,
    limit: int | None = 320,
    batch_size: int = 32,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Evaluation]:
    """Score models {name: model} on the first ``limit`` scenes, and write a page that needs no other file to ``path``.

    Beside the scores it shows what each model makes of the first ``num_shown`` scenes: of images, of the last frame of
    videos, of the last view of scenes seen from several sides. A model for images gets frames and views one by one.
    ``data`` is what the page calls the dataset, ``command`` what it says makes it again. ``progress`` is called with
    (name, scenes done, scenes in all).

    Raises InputError if there is nothing to compare and, before anything is scored, for a model that cannot take these
    scenes.
    """
    if not models or num_shown < 1:
        raise InputError(f"there are {len(models)} models and {num_shown} images to show; give at least 1 of both")
    device = usable_device(device)
    scenes = collate([dataset[i] for i in range(min(num_shown, len(dataset)))])
    shown = {name: _shown(name, model, scenes, seed, device) for name, model in models.items()}
    found = {}
    for name, model in models.items():
        tell = None if progress is None else partial(progress, name)
        options = {"limit": limit, "batch_size": batch_size, "seed": seed, "device": device, "progress": tell}
        found[name] = evaluate(model, dataset, **options)
    titles, *rows = cells(models, found)
    image, mask = _last(scenes, "image"), _last(scenes, "mask")
    contents = {
        "data": data,
        "titles": titles,
        "rows": rows,
        "number": next(iter(found.values())).meta["n"],
        "kind": "videos" if is_video(scenes) else "scenes" if are_views(scenes) else "images",
        "device": platform_facts(device)["device"],
        "panel": picture(comparison_panel(image, dict(zip(_methods(models), shown.values(), strict=True)), mask)),
        "command": command,
    }
    write_page(Path(path), "comparison.html", contents)
    return found


def cells(models: Mapping[str, SceneModel], found: Mapping[str, Evaluation]) -> list[list[str]]:
    """The table: a row of titles, then one for each model with its scores, slots and parameters."""
    names = [name for name in SCORES if any(name in evaluation.values for evaluation in found.values())]
    rows = [["model", *(METRICS[name] for name in names), "Slots", "Parameters"]]
    for name, evaluation in found.items():
        summary = evaluation.summary()
        scores = [summary.get(score, {}).get("mean") for score in names]
        size = sum(parameter.numel() for parameter in models[name].parameters())
        numbers = ["-" if score is None else f"{score:.3g}" for score in scores]
        rows.append([name, *numbers, str(evaluation.meta["num_slots"]), f"{size:,}"])
    return rows


def table(models: Mapping[str, SceneModel], found: Mapping[str, Evaluation]) -> str:
    """`cells` as aligned text."""
    return aligned(cells(models, found))


def _shown(name: str, model: SceneModel, scenes: Scenes, seed: int, device: torch.device) -> Decomposition:
    """What the model makes of images, or of the last frames or views: a Decomposition (B, K, ...), on the CPU."""
    whole = scenes["image"].ndim == 5 and isinstance(model, VideoModel | MultiViewModel)
    seen = {"image": _last(scenes, "image")}
    if whole:
        seen = {part: scenes[part] for part in ("image", "viewpoint") if part in scenes}
    batch = {part: value.to(device) for part, value in seen.items()}
    try:
        with undisturbed(model, device, (seed, 0), "32-true"), torch.no_grad():
            said = model.decompose_batch(batch)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    parts = (said.masks, said.components, said.slots)
    return Decomposition(*((part[:, -1] if whole else part).cpu() for part in parts))


def _methods(models: Mapping[str, SceneModel]) -> list[str]:
    """Titles of columns, for which names of folders would be too long: classes, numbered where one occurs again."""
    names = [type(model).__name__ for model in models.values()]
    return [f"{name} {names[:i].count(name) + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _last(scenes: Scenes, name: str) -> Tensor | None:
    """``image`` (B, C, H, W) or ``mask`` (B, H, W), of videos and views the last ones; None if there is none."""
    if name not in scenes:
        return None
    return scenes[name][:, -1] if scenes["image"].ndim == 5 else scenes[name]
