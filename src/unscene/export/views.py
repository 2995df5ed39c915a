"""A scene from viewpoints that the model did not see, as files: what `unscene render` writes.

A scene gets a folder of its own, OUT/NAME:

======================  =======================================================================
observed.png            the views that the model saw, and what it makes of them
views.png               what it shows from the other viewpoints, beside the real ones if known
view_Q.png              each of these alone
view_Q_labels.png       its label map (8-bit palette PNG, the pixel values are the slots' numbers)
view_Q_slot_K.png       what slot K paints there (RGBA)
view_Q_uncertainty.png  how sure the model is of it
views.npz               viewpoint (Q, P), reconstruction (Q, C, H, W) float16, labels (Q, H, W) uint8,
                        log_variance (Q, H, W) float32, decimal; slots and slot_scale (K, D) float32
info.json               which scene it is and how it was seen
======================  =======================================================================
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from unscene.errors import InputError
from unscene.export.common import check_folder, chosen_settings, folder_for, label_picture, undisturbed
from unscene.figures import decomposition_panel, uncertainty_map, views_panel
from unscene.figures.colours import to_rgb, to_rgba
from unscene.figures.views import log_variance
from unscene.files import replacing
from unscene.models.base import MultiViewModel, SceneModel
from unscene.scenes import Decomposition, Scenes


class Shown(NamedTuple):
    """What a model makes of one scene, on the CPU."""

    image: Float[Tensor, "L C H W"]  # that it observed
    observed: Decomposition  # (L, K, ...)
    viewpoint: Float[Tensor, "Q P"]
    truth: Float[Tensor, "Q C H W"] | None
    novel: Decomposition  # (Q, K, ...)
    variance: Float[Tensor, "Q H W"]


def export_views(
    model: SceneModel,
    scene: Scenes,
    out: str | Path,
    *,
    name: str,
    source: str = "",
    viewpoint: Tensor | None = None,
    observe: int | None = None,
    num_slots: int | None = None,
    iterations: int | None = None,
    samples: int = 20,
    seed: int = 0,
) -> Path:
    """Let a model see views of ``scene`` and write what it shows from elsewhere to a folder under ``out``; return that.

    ``scene`` is a sample of a dataset: ``image`` (V, C, H, W), ``viewpoint`` (V, P). The folder is called ``name``, or
    NAME-2, ... if that holds a scene of another ``source``, which says where the scene is from.
    ``viewpoint`` (Q, P) are those to show; without, they are those of the views that were not observed. ``observe``
    views are seen, evenly spread over the V of the scene; by default all if ``viewpoint`` is given, else half of them.
    The uncertainty is the variance over ``samples`` samples of the model's belief. The folder appears complete or not
    at all; doing a scene again replaces it.

    Raises InputError for a model that knows no viewpoints, a scene without them, numbers that make no sense, and
    whatever the model refuses.
    """
    out = Path(out)
    if not isinstance(model, MultiViewModel):
        raise InputError(f"{type(model).__name__} cannot show other views of a scene; use a model such as MulMON")
    settings = chosen_settings(model, num_slots=num_slots, iterations=iterations)
    check_folder(out)
    seen, asked = choose_views(scene, observe, all_by_default=viewpoint is not None)
    truth = None
    if viewpoint is None:
        viewpoint, truth = scene["viewpoint"][asked], scene["image"][asked]
    with undisturbed(model, Path(name), seed) as device:
        image, of_image, viewpoint = (x.to(device) for x in (scene["image"][seen], scene["viewpoint"][seen], viewpoint))
        shown = _show(model, image, of_image, viewpoint, truth, samples, settings)
    info = {
        "scene": source or name,
        "method": type(model).__name__,
        "observed": seen,
        "viewpoints": shown.viewpoint.tolist(),
    }
    info |= {"samples": samples, "seed": seed, **settings}
    folder = folder_for(info, "scene", name, out)
    with replacing(folder) as draft:
        draft.mkdir()
        _write(draft, shown, info)
    return folder


def choose_views(scene: Scenes, observe: int | None, all_by_default: bool) -> tuple[list[int], list[int]]:
    """The numbers of the views to observe, evenly spread, and of the others."""
    if "viewpoint" not in scene or scene["image"].ndim != 4:
        raise InputError("the data has no viewpoints; choose a dataset of scenes that are seen from several of them")
    num_views = len(scene["image"])
    least_left = 0 if all_by_default else 1
    if observe is None:
        observe = num_views if all_by_default else max(num_views // 2, 1)
    if not 1 <= observe <= num_views - least_left:
        raise InputError(
            f"cannot observe {observe} of {num_views} views"
            + (" and show the others; lower observe, or give a viewpoint" if least_left else "; change observe")
        )
    seen = np.linspace(0, num_views - 1, observe).round().astype(int).tolist()
    return seen, [v for v in range(num_views) if v not in seen]


def _show(
    model: MultiViewModel,
    image: Tensor,
    of_image: Tensor,
    viewpoint: Tensor,
    truth: Tensor | None,
    samples: int,
    settings: dict[str, int],
) -> Shown:
    observed = model.decompose(image[None], of_image[None], **settings)
    slots, scale = observed.slots[:, 0], observed.slot_scale
    novel = model.render(slots, viewpoint[None], tuple(image.shape[-2:]))
    scale = torch.zeros_like(slots) if scale is None else scale[:, 0]  # a method that is always sure
    variance = model.uncertainty(slots, scale, viewpoint[None], samples=samples, size=tuple(image.shape[-2:]))
    return Shown(image.cpu(), _first(observed), viewpoint.cpu(), truth, _first(novel), variance[0].float().cpu())


def _first(decomposition: Decomposition) -> Decomposition:
    """The first scene of a batch, on the CPU, with what is drawn and stored."""
    names = ("masks", "components", "slots", "slot_scale")
    parts = {name: getattr(decomposition, name) for name in names}
    return Decomposition(**{name: part[0].float().cpu() for name, part in parts.items() if part is not None})


def _write(folder: Path, shown: Shown, info: dict[str, Any]) -> None:
    novel, observed = shown.novel, shown.observed
    titles = [f"view {number}" for number in info["observed"]]
    decomposition_panel(shown.image, observed, titles=titles).savefig(folder / "observed.png")
    views_panel(novel, shown.variance, shown.truth).savefig(folder / "views.png")
    labels = novel.segmentation.numpy().astype(np.uint8)
    pictures = zip(to_rgb(novel.reconstruction), labels, uncertainty_map(shown.variance), strict=True)
    for q, (picture, label, uncertainty) in enumerate(pictures):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"view_{q}.png")
        label_picture(label).save(folder / f"view_{q}_labels.png")
        Image.fromarray(uncertainty).save(folder / f"view_{q}_uncertainty.png")
        for k, pixels in enumerate(to_rgba(novel.components[q], novel.masks[q])):
            Image.fromarray(pixels).save(folder / f"view_{q}_slot_{k}.png")
    scale = {} if observed.slot_scale is None else {"slot_scale": observed.slot_scale[0].numpy()}
    np.savez_compressed(
        folder / "views.npz",
        viewpoint=shown.viewpoint.numpy(),
        reconstruction=novel.reconstruction.half().numpy(),
        labels=labels,
        log_variance=log_variance(shown.variance).numpy(),
        slots=observed.slots[0].numpy(),
        **scale,
    )
    (folder / "info.json").write_text(json.dumps(info, indent=2) + "\n")
