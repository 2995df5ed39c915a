"""`unscene sprites`: the sprites of a model as pictures, and how often a dataset has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from unscene.commands.output import write_figure
from unscene.data import open_dataset
from unscene.errors import InputError
from unscene.evaluation.sprite_usage import SpriteUsage, sprite_usage
from unscene.export.common import check_folder
from unscene.figures.colours import to_rgb, to_rgba
from unscene.figures.sprites import sprite_gallery
from unscene.files import replacing
from unscene.models.base import SceneModel
from unscene.models.dti_clustering import DTIClustering
from unscene.models.dti_sprites import DTISprites
from unscene.pretrained import load
from unscene.progress import progress


def load_sprites(weights: str) -> DTISprites | DTIClustering:
    """The model, if it has sprites."""
    model = load(weights)
    if not isinstance(model, DTISprites | DTIClustering):
        raise InputError(f"{weights} has no sprites, as it holds a {type(model).__name__}; name weights of DTISprites")
    return model


def count_sprites(
    model: SceneModel, data: str | None, split: str | None, options: dict[str, Any], json: Path | None, **settings: Any
) -> SpriteUsage | None:
    """What `sprite_usage` finds in a dataset; None without one. ``settings`` are its own."""
    if data is None:
        if json is not None or options:
            raise InputError("counts need images; name them with --data, or leave out --json and --options")
        return None
    return sprite_usage(model, open_dataset(data, split, **options), **settings, progress=progress)


def sprite_masks(model: SceneModel) -> Tensor | None:
    """(K, 1, h, w), or None if the prototypes are whole images."""
    masks = getattr(model, "sprite_masks", None)
    return None if masks is None else masks.detach()


def export_sprites(model: SceneModel, out: Path, usage: SpriteUsage | None = None) -> None:
    """Write gallery.png, sprite_0.png, ... as large as the sprites are and, if there is one, background.png.

    Each appears whole or not at all, in place of a file of that name; what else is in ``out`` stays.
    """
    check_folder(out)
    sprites, masks = model.sprites.detach(), sprite_masks(model)
    used = None if usage is None else usage.layers.float()
    write_figure(sprite_gallery(sprites, masks, used), out / "gallery.png")
    pictures = to_rgb(sprites) if masks is None else to_rgba(sprites, masks[:, 0])
    named = {f"sprite_{k}.png": pixels for k, pixels in enumerate(pictures)}
    if (background := getattr(model, "background", None)) is not None:
        named["background.png"] = to_rgb(background.detach())
    for name, pixels in named.items():
        with replacing(out / name) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
