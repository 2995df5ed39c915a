"""SpriteScene: an image as layers of transformed sprites, in numbers that can be read and edited.

    scene = model.parse(image)
    scene = move(model, swap(model, scene, layer=2, sprite=4), layer=2, centre=(0.1, -0.2))
    model.render(scene).reconstruction

Edits leave the scene that they are given as it is and return another. They change one layer in all images of the batch.
Layers are counted from 1, as in label maps and in the slots of a Decomposition, sprites from 0. Values that no image of
the training had are allowed: colours and sizes may be new (Monnier et al., ICCV 2021, Fig. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from unscene.errors import InputError
from unscene.models.base import SceneModel
from unscene.nn.transforms import COLOURS, Colour, LinearColour
from unscene.scenes import Decomposition

TINY = 1e-12  # in place of an area of 0
DARK = 0.05  # colours below this are not brightened by a gain, which would have to be huge


@dataclass(frozen=True)
class SpriteScene:
    """What `DTISprites.parse` finds in images and `DTISprites.render` makes images of.

    ``sprite`` numbers the sprite of each layer; K stands for the empty one, which shows nothing. Parameters of
    transformations are named after them (see `unscene.nn.transforms`) and are those of active ones only.
    ``occlusion[b, j, i]`` says how far layer j hides layer i, from 0 to 1. ``placement`` comes from edits alone:
    (r, x, y) puts what the model has at u to r u + (x, y), in coordinates from -1 to 1, x to the right and y down.
    """

    sprite: Int[Tensor, "B L"]
    layer: dict[str, Float[Tensor, "B L _"]]  # of the transformation that all sprites of a layer share
    own: dict[str, Float[Tensor, "B L K _"]]  # of the sprites' own ones, also of those that were not chosen
    background: dict[str, Float[Tensor, "B _"]]
    occlusion: Float[Tensor, "B L L"]
    placement: Float[Tensor, "B L 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class SpriteDecomposition(Decomposition):
    """A Decomposition that knows the scene it was drawn from."""

    scene: SpriteScene


# ---- reading --------------------------------------------------------------------------------------------------


def empty_layers(model: SceneModel, scene: SpriteScene) -> list[int]:
    """The layers that show nothing in any image."""
    return [layer for layer, empty in enumerate((scene.sprite >= model.num_sprites).all(0).tolist(), 1) if empty]


def places(model: SceneModel, scene: SpriteScene) -> tuple[Float[Tensor, "B L 2"], Float[Tensor, "B L"]]:
    """Centre (x, y) of each layer's mask, x to the right and y down in [-1, 1], and the share of the image it covers.

    As if no other layer hid it, and nothing of what edits move and enlarge went over the border. A layer without any
    mask in the image has its centre in the middle.
    """
    masks = model.layer_masks(replace(scene, placement=None)).clamp(0, 1)
    area = masks.mean((2, 3))
    y, x = ((2 * torch.arange(n).to(masks) + 1) / n - 1 for n in masks.shape[2:])
    moments = torch.stack([(masks.mean(2) * x).mean(2), (masks.mean(3) * y).mean(2)], 2)
    factor, offset = _placements(scene).split([1, 2], 2)
    return factor * moments / area.clamp(min=TINY).unsqueeze(2) + offset, factor.squeeze(2).square() * area


@torch.no_grad()
def mean_colours(model: SceneModel) -> Float[Tensor, "K C"]:
    """Mean colour of each sprite, weighed by its mask."""
    weights = model.sprite_masks.clamp(0, 1) + 1e-6  # sprites without any mask have a mean too
    return (weights * model.sprites.clamp(0, 1)).sum((2, 3)) / weights.sum((2, 3))


# ---- edits ----------------------------------------------------------------------------------------------------


def swap(model: SceneModel, scene: SpriteScene, layer: int, sprite: int) -> SpriteScene:
    """Show another sprite, in the layer's colour and place, deformed as the networks foresaw for it there."""
    _check_shown(model, scene, layer)
    if not 0 <= sprite < model.num_sprites:
        raise InputError(f"there is no sprite {sprite}; this model has the sprites 0 to {model.num_sprites - 1}")
    return replace(scene, sprite=_with(scene.sprite, layer, sprite))


def move(model: SceneModel, scene: SpriteScene, layer: int, centre: Sequence[float]) -> SpriteScene:
    """Put the centre of the layer at (x, y), from -1 at the left and top of the image to 1 at the right and bottom."""
    if len(centre) != 2 or not all(-1 <= place <= 1 for place in centre):
        raise InputError(
            f"the centre {tuple(centre)} is not in the image; give x and y from -1 (left, top) to 1 (right, bottom)"
        )
    now, placement = _centre(model, scene, layer), _placements(scene)[:, layer - 1]
    offset = placement[:, 1:] + (now.new_tensor(centre) - now)
    return _with_placement(scene, layer, torch.cat([placement[:, :1], offset], 1))


def scale(model: SceneModel, scene: SpriteScene, layer: int, factor: float) -> SpriteScene:
    """Make the layer ``factor`` times as wide and as high about its centre."""
    if not 0 < factor < float("inf"):
        raise InputError(f"the factor of scale is {factor}; give one above 0, such as 2 for twice the size")
    now, placement = _centre(model, scene, layer), _placements(scene)[:, layer - 1]
    offset = factor * placement[:, 1:] + (1 - factor) * now
    return _with_placement(scene, layer, torch.cat([factor * placement[:, :1], offset], 1))


def recolour(model: SceneModel, scene: SpriteScene, layer: int, colour: Sequence[float]) -> SpriteScene:
    """Let the mean colour of the sprite become ``colour`` (C values in [0, 1]), by a gain for each channel.

    It changes the colour transformation of the layer or, if that has none, the one of its sprite. Where the sprite
    hardly has a channel, below 0.05, that channel is shifted too, unless the transformation is a mere gain.
    """
    _check_shown(model, scene, layer)
    _check_colour(colour, model.sprites.shape[1])
    sprite = scene.sprite[:, layer - 1]
    rows = torch.arange(len(sprite), device=sprite.device)
    own, shared = _colour_in(scene.own), _colour_in(scene.layer)
    mean = mean_colours(model)[sprite].to(scene.occlusion)
    if shared is None and own is None:
        raise InputError("the sprites of this model cannot be recoloured; train one whose layer_transforms have color")
    if shared is None:
        values = scene.own[own.name].clone()
        values[rows, layer - 1, sprite] = _colour_parameters(own, mean, colour)
        return replace(scene, own=scene.own | {own.name: values})
    if own is not None:
        gain, shift = own(len(colour)).gain_and_shift(scene.own[own.name][rows, layer - 1, sprite])
        mean = ((1 + gain) * mean + shift).clamp(0, 1)
    values = _with(scene.layer[shared.name], layer, _colour_parameters(shared, mean, colour))
    return replace(scene, layer=scene.layer | {shared.name: values})


def delete(model: SceneModel, scene: SpriteScene, layer: int) -> SpriteScene:
    """Let the layer show nothing; what it hid is seen."""
    _check_shown(model, scene, layer)
    return replace(scene, sprite=_with(scene.sprite, layer, model.num_sprites))


def duplicate(model: SceneModel, scene: SpriteScene, layer: int, to: int | None = None) -> SpriteScene:
    """Copy the layer to the layer ``to``, by default the first that is empty in all images.

    The copy lies in front of the original; for all others both hide and are hidden alike.
    """
    _check_shown(model, scene, layer)
    free = empty_layers(model, scene)
    if not free:
        raise InputError(f"there is no empty layer for a copy of layer {layer}; delete one first")
    if to is not None and to not in free:
        raise InputError(f"layer {to} is not empty, so it cannot take a copy of layer {layer}; choose {_listed(free)}")
    to = free[0] if to is None else to
    source, copy = layer - 1, to - 1
    occlusion = scene.occlusion.clone()
    occlusion[:, copy] = scene.occlusion[:, source]
    occlusion[:, :, copy] = occlusion[:, :, source].clone()
    occlusion[:, copy, source], occlusion[:, source, copy], occlusion[:, copy, copy] = 1, 0, 0
    return SpriteScene(
        _with(scene.sprite, to, scene.sprite[:, source]),
        {name: _with(values, to, values[:, source]) for name, values in scene.layer.items()},
        {name: _with(values, to, values[:, source]) for name, values in scene.own.items()},
        scene.background,
        occlusion,
        None if scene.placement is None else _with(scene.placement, to, scene.placement[:, source]),
    )


def reorder(model: SceneModel, scene: SpriteScene, layer: int, place: str) -> SpriteScene:
    """Bring the layer to the "front", where it hides all others, or to the "back"."""
    _check_shown(model, scene, layer)
    if place not in ("front", "back"):
        raise InputError(f"a layer cannot be brought to {place!r}; give front or back")
    occlusion = scene.occlusion.clone()
    occlusion[:, layer - 1], occlusion[:, :, layer - 1] = float(place == "front"), float(place == "back")
    occlusion[:, layer - 1, layer - 1] = 0
    return replace(scene, occlusion=occlusion)


# ---- small things -----------------------------------------------------------------------------------------------


def _with(values: Tensor, layer: int, those_of_layer: Tensor | int) -> Tensor:
    values = values.clone()
    values[:, layer - 1] = those_of_layer
    return values


def _with_placement(scene: SpriteScene, layer: int, placement: Float[Tensor, "B 3"]) -> SpriteScene:
    return replace(scene, placement=_with(_placements(scene), layer, placement))


def _placements(scene: SpriteScene) -> Float[Tensor, "B L 3"]:
    """Those of all layers, also if no edit has made one."""
    if scene.placement is not None:
        return scene.placement
    return scene.occlusion.new_tensor([1.0, 0.0, 0.0]).expand(*scene.sprite.shape, 3)


def _centre(model: SceneModel, scene: SpriteScene, layer: int) -> Float[Tensor, "B 2"]:
    """That of a layer which can be moved and scaled."""
    _check_shown(model, scene, layer)
    centres, areas = places(model, scene)
    nowhere = (areas[:, layer - 1] == 0).nonzero()[:, 0].tolist()
    if nowhere:
        raise InputError(
            f"the mask of layer {layer} is empty{_where(scene, nowhere[0])}, so the layer has no centre and cannot be "
            "moved or scaled; give it another sprite first"
        )
    return centres[:, layer - 1]


def _colour_in(parameters: dict[str, Tensor]) -> type[Colour] | None:
    """The first colour transformation among active ones."""
    return next((COLOURS[name] for name in parameters if name in COLOURS), None)


def _colour_parameters(kind: type[Colour], mean: Float[Tensor, "B C"], colour: Sequence[float]) -> Tensor:
    """Those that take colours of this mean to ``colour``; without a shift unless a channel is dark."""
    target = mean.new_tensor(colour)
    gain = target / mean.clamp(min=DARK)
    if kind is LinearColour:
        return gain - 1
    return torch.stack([gain - 1, target - gain * mean], 2).flatten(1)


def _check_shown(model: SceneModel, scene: SpriteScene, layer: int) -> None:
    shown = scene.sprite < model.num_sprites
    if not 1 <= layer <= shown.shape[1]:
        raise InputError(f"there is no layer {layer}; this model has the layers 1 to {shown.shape[1]}")
    empty = (~shown[:, layer - 1]).nonzero()[:, 0].tolist()
    if empty:
        others = (shown[empty[0]].nonzero()[:, 0] + 1).tolist()
        hint = f"those that show something are {_listed(others)}" if others else "no layer shows anything"
        raise InputError(f"layer {layer} is empty{_where(scene, empty[0])}, so there is nothing to edit; {hint}")


def _where(scene: SpriteScene, image: int) -> str:
    return f" in image {image} of the batch" if len(scene.sprite) > 1 else ""


def _check_colour(colour: Sequence[float], channels: int) -> None:
    if len(colour) != channels or not all(0 <= value <= 1 for value in colour):
        raise InputError(f"the colour {tuple(colour)} does not fit; give {channels} values from 0 to 1")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
