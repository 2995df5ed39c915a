"""`unscene edit`: an image as layers of sprites, one of them changed, drawn again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageColor
from torch import Tensor

from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError
from unscene.export import read_image
from unscene.export.common import check_folder, folder_for, undisturbed
from unscene.figures.colours import to_rgb, to_rgba
from unscene.figures.sprites import layers_panel
from unscene.files import replacing
from unscene.models import sprite_scene as scenes
from unscene.models.dti_sprites import DTISprites
from unscene.models.sprite_scene import SpriteScene
from unscene.pretrained import load
from unscene.scenes import Decomposition

Edits = Mapping[str, Any]


def load_layers(weights: str) -> DTISprites:
    """The model, if it takes images apart into layers."""
    model = load(weights)
    if not isinstance(model, DTISprites):
        raise InputError(f"{weights} has no layers to edit, as it holds a {type(model).__name__}; name a DTISprites")
    return model


def given_edits(
    swap: int | None,
    move: Sequence[float] | None,
    scale: float | None,
    recolor: str,
    order: str | None,
    duplicate: bool,
    delete: bool,
) -> dict[str, Any]:
    """What is asked for, in the order in which it is done."""
    asked = {
        "duplicate": duplicate or None,
        "swap": swap,
        "move": move,
        "scale": scale,
        "recolor": recolor or None,
        "order": order,
        "delete": delete or None,
    }
    edits = {name: value for name, value in asked.items() if value is not None}
    if "delete" in edits and len(edits) > 1:
        raise InputError(
            f"a layer that is deleted cannot be edited too; leave out delete, or {', '.join([*edits][:-1])}"
        )
    return edits


def edit_image(model: DTISprites, path: Path, out: Path, layer: int | None, edits: Edits) -> Path:
    """Write an image before and after edits of a layer; without edits only its layers. Returns the folder."""
    if not path.is_file():
        raise InputError(f"image {path} does not exist; check the path")
    check_folder(out)
    image = read_image(path, model.image_channels, model.image_size)[None]
    with undisturbed(model, path, 0) as device:
        before = model.parse(image.to(device))
        if edits and layer is None:
            shown = set(range(1, model.num_layers + 1)) - set(scenes.empty_layers(model, before))
            found = ", ".join(map(str, sorted(shown))) or "none"
            raise InputError(f"name the layer to edit with --layer; those that show something are {found}")
        after = apply(model, before, layer, edits)
        pictures = _together([model.render(scene) for scene in ((before, after) if edits else (before,))])
    told = {name: list(value) if name == "move" else value for name, value in edits.items()}
    info = {"image": str(path.resolve()), "method": type(model).__name__, "layer": layer, "edits": told}
    info |= {"before": describe(model, before), "after": describe(model, after)}
    folder = folder_for(info, "image", path.stem, out)
    with replacing(folder) as draft:
        draft.mkdir()
        _write(draft, image, pictures, info)
    return folder


def apply(model: DTISprites, scene: SpriteScene, layer: int | None, edits: Edits) -> SpriteScene:
    """The scene with all edits of `given_edits`; behind "duplicate" they are those of the copy."""
    for name, value in edits.items():
        if name == "duplicate":
            copy = next(iter(scenes.empty_layers(model, scene)), None)
            scene, layer = scenes.duplicate(model, scene, layer, copy), copy
        elif name == "delete":
            scene = scenes.delete(model, scene, layer)
        elif name == "recolor":
            scene = scenes.recolour(model, scene, layer, read_colour(value, model.image_channels))
        else:
            edit = {"swap": scenes.swap, "move": scenes.move, "scale": scenes.scale, "order": scenes.reorder}[name]
            scene = edit(model, scene, layer, value)
    return scene


def read_colour(text: str, channels: int) -> list[float]:
    """Values in [0, 1] of a colour as in web pages; its brightness for gray images."""
    try:
        colour = torch.tensor(ImageColor.getrgb(text)[:3]).view(3, 1, 1) / 255
    except ValueError as error:
        raise InputError(f"{text!r} is no colour; give one as #c33, #cc3333 or red") from error
    return (to_grayscale(colour) if channels == 1 else colour).flatten().tolist()


def describe(model: DTISprites, scene: SpriteScene) -> list[dict[str, Any]]:
    """Of each layer that shows something its number, its sprite, its centre and the share of the image it covers."""
    empty = scenes.empty_layers(model, scene)
    centres, areas = scenes.places(model, scene)
    found = zip(scene.sprite[0].tolist(), centres[0].tolist(), areas[0].tolist(), strict=True)
    rows = [{"layer": n, "sprite": k, "centre": centre, "area": area} for n, (k, centre, area) in enumerate(found, 1)]
    return [row for row in rows if row["layer"] not in empty]


def _write(folder: Path, image: Tensor, pictures: Decomposition, info: dict[str, Any]) -> None:
    """``pictures`` are those before and after the edits, or only before if there are none."""
    names = ("before", "after")[: len(pictures.masks)]
    for name, picture in zip(("image", *names), (image[0], *pictures.reconstruction), strict=True):
        Image.fromarray(to_rgb(picture)).save(folder / f"{name}.png")
    layers = ["background", *(f"layer_{layer}" for layer in range(1, pictures.masks.shape[1]))]
    for name, pixels in zip(layers, to_rgba(pictures.components[-1], pictures.masks[-1]), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    figure = layers_panel(image.expand(len(names), -1, -1, -1), pictures, titles=names)
    figure.savefig(folder / "panel.png")
    (folder / "info.json").write_text(json.dumps(info, indent=2) + "\n")


def _together(decompositions: Sequence[Decomposition]) -> Decomposition:
    """All of them as one batch on the CPU."""
    named = {field.name: [getattr(d, field.name) for d in decompositions] for field in fields(Decomposition)}
    return Decomposition(**{name: torch.cat(v).cpu() for name, v in named.items() if isinstance(v[0], Tensor)})
