"""The page of a run: facts, tables and figures, put into run.html."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from unscene.errors import InputError
from unscene.figures import (
    components_panel,
    decoder_masks_panel,
    decomposition_panel,
    filmstrip,
    horizon_curves,
    loss_curves,
    mask_logits_panel,
    refinement_panel,
)
from unscene.figures.components import decodes_other_masks
from unscene.figures.grid import DPI
from unscene.files import replacing
from unscene.models.dti_sprites import DTISprites
from unscene.report.facts import METRICS, facts, scores
from unscene.report.run import Clip, Run
from unscene.report.sprites import SpriteRun, has_sprites
from unscene.scenes import Decomposition

ELSEWHERE, ELSEWHERE_VIDEO = ("ari", "fg_ari", "mse"), ("frame_ari", "frame_fg_ari", "fg_ari", "mota", "mse")
NUM_LOGITS = 2  # images whose mask logits are shown; they take two rows each


def write_report(run_dir: str | Path, generalise_to: Sequence[str] = ()) -> Path:
    """Write RUN/report.html, a page that needs no other file and no network, and return its path.

    ``generalise_to`` names other data, as for `unscene.data.open_dataset`, on which the model is scored too; NAME=K
    gives it K slots there, as more objects need.
    What the run lacks (evaluation, weights, held-out images, ...) is replaced by a sentence that says so.
    Raises InputError if ``run_dir`` is not the folder of a training.
    """
    run = Run(Path(run_dir))
    path = run.path / "report.html"
    write_page(path, "run.html", _contents(run, generalise_to))
    return path


def write_page(path: Path, template: str, contents: dict[str, Any]) -> None:
    """Fill a template of this package and write the page, whole or not at all."""
    environment = Environment(loader=PackageLoader("unscene.report", "."), autoescape=True, trim_blocks=True)
    html = environment.get_template(template).render(contents)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _contents(run: Run, generalise_to: Sequence[str]) -> dict[str, Any]:
    """The variables of the template. A section is {"content": ...} or {"missing": why}."""
    config = _try(lambda: run.config).get("content", {})
    evaluation = _try(lambda: run.evaluation)
    measured = evaluation.get("content", {})
    return {
        "run": run.path,
        "kind": _try(lambda: run.kind).get("content", "held-out"),
        "facts": facts(config, measured, run),
        "evaluation": evaluation,
        "scores": scores(config, measured) if measured else [],
        "elsewhere": _try(lambda: run.generalisation(generalise_to)) if generalise_to else None,
        "elsewhere_metrics": ELSEWHERE_VIDEO if run.is_video else ELSEWHERE,
        "labels": METRICS,
        "curves": _try(lambda: picture(loss_curves(run.metrics))),
        "video": run.is_video,
        "sprites": not run.is_video and has_sprites(run),
        **_figures(run),
        "settings": _try(lambda: run.config_text),
    }


def _figures(run: Run) -> dict[str, Any]:
    if run.is_video:
        return _video_figures(run)
    return _sprite_figures(SpriteRun(run)) if has_sprites(run) else _image_figures(run)


def _sprite_figures(sprites: SpriteRun) -> dict[str, Any]:
    layered = isinstance(sprites.run.model, DTISprites)
    return {
        "gallery": _try(lambda: picture(sprites.gallery())),
        "usage": _try(lambda: sprites.usage.to_json()),
        "layers": _try(lambda: picture(sprites.layers())) if layered else None,
        "edits": _try(lambda: picture(sprites.manipulations())) if layered else None,
        "clusters": _try(lambda: picture(sprites.clusters())) if sprites.clusters_images else None,
    }


def _image_figures(run: Run) -> dict[str, Any]:
    return {
        "decompositions": _try(lambda: picture(decomposition_panel(run.scenes["image"], run.decomposition))),
        "refinement": _try(lambda: picture(refinement_panel(run.decomposition))),
        "alone": _try(lambda: picture(components_panel(run.scenes["image"], run.decomposition))),
        "decoder_masks": _try(lambda: _decoder_masks(run)),
        "logits": _try(lambda: picture(_logits(run))),
    }


def _video_figures(run: Run) -> dict[str, Any]:
    clips = _try(lambda: run.clips)
    return {
        "filmstrips": [_try(lambda clip=clip: picture(_filmstrip(clip))) for clip in clips["content"]]
        if "content" in clips
        else [clips],
        "prediction": _try(lambda: picture(horizon_curves(run.prediction))),
    }


def _filmstrip(clip: Clip) -> Figure:
    length = len(clip.decomposition.masks)
    observed = clip.observe if clip.observe < length else None
    return filmstrip(clip.video, clip.decomposition, clip.mask, observed=observed)


def _try(build: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"content": build()}
    except InputError as error:
        sentence = str(error)
        return {"missing": f"{sentence[:1].upper()}{sentence[1:]}."}


def _logits(run: Run) -> Figure:
    part, scenes = _with_logits(run), run.scenes
    return mask_logits_panel(scenes["image"][:NUM_LOGITS], part, scenes.get("mask", part.segmentation)[:NUM_LOGITS])


def _decoder_masks(run: Run) -> dict[str, Any] | None:
    """Nothing if the masks are those that the slots decode, as in most methods."""
    part = _with_logits(run)
    return picture(decoder_masks_panel(run.scenes["image"][:NUM_LOGITS], part)) if decodes_other_masks(part) else None


def _with_logits(run: Run) -> Decomposition:
    """That of the first images, of which there are two rows."""
    whole = run.decomposition
    if whole.mask_logits is None:
        raise InputError(f"{type(run.model).__name__} has no mask logits")
    names = ("masks", "components", "slots", "mask_logits")
    return replace(whole, **{name: getattr(whole, name)[:NUM_LOGITS] for name in names}, history=())


def picture(figure: Figure) -> dict[str, Any]:
    """A figure as data URI at twice the resolution it is shown in, transparent for light and dark pages."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=2 * DPI, transparent=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"source": f"data:image/png;base64,{data}", "width": round(figure.get_size_inches()[0] * DPI)}
