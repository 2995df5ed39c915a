"""What the page shows of a sprite model: its sprites, the layers of images, edits of them, and clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from matplotlib.figure import Figure
from torch import Tensor

from unscene.data.dataset import collate
from unscene.errors import InputError
from unscene.evaluation.sprite_usage import SpriteUsage, sprite_usage
from unscene.figures.sprites import clusters_panel, layers_panel, manipulation_grid, sprite_gallery
from unscene.models.dti_clustering import DTIClustering
from unscene.models.dti_sprites import DTISprites
from unscene.models.sprite_scene import SpriteScene, move, places, recolour, scale, swap
from unscene.report.run import Run

NUM_COUNTED = 320  # images in which sprites are counted, and that are clustered
BATCH = 32
VARIANTS = 5  # of each kind of edit
TARGETS = ((0.8, 0.1, 0.1), (0.1, 0.6, 0.2), (0.1, 0.3, 0.9), (0.9, 0.8, 0.1), (0.9, 0.5, 0.7))  # colours, RGB
PLACES, FACTORS = (-0.6, -0.3, 0.0, 0.3, 0.6), (0.5, 0.75, 1.0, 1.5, 2.0)


def has_sprites(run: Run) -> bool:
    """False too if there are no weights."""
    try:
        return isinstance(run.model, DTISprites | DTIClustering)
    except InputError:
        return False


@dataclass(frozen=True)
class SpriteRun:
    """The figures of a run whose model has sprites; a part that cannot be shown raises an InputError that says why."""

    run: Run

    @cached_property
    def usage(self) -> SpriteUsage:
        return sprite_usage(self.run.model, self.run.dataset, limit=NUM_COUNTED, batch_size=BATCH)

    @property
    def clusters_images(self) -> bool:
        return getattr(self.run.model, "num_layers", 1) == 1

    def gallery(self) -> Figure:
        model = self.run.model
        return sprite_gallery(model.sprites.detach(), _masks(model), self.usage.layers.float())

    def layers(self) -> Figure:
        image = self.run.scenes["image"]
        return layers_panel(image, self.run.decomposition, self.run.model.instances(image))

    def manipulations(self) -> Figure:
        """Edits of the layer that is seen best, of those that show a sprite."""
        run, decomposition = self.run, self.run.decomposition
        areas = decomposition.masks[:, 1:].sum((2, 3)).masked_fill(decomposition.sprite_ids[:, 1:] < 0, -1)
        if (areas < 0).all():
            raise InputError("no layer of these images shows a sprite, so there is none to edit")
        index, layer = divmod(int(areas.argmax()), areas.shape[1])
        image = run.scenes["image"][index : index + 1]
        variants = edited(run.model, run.model.parse(image), layer + 1)
        return manipulation_grid(image[0], decomposition.reconstruction[index], variants)

    def clusters(self) -> Figure:
        model, dataset = self.run.model, self.run.dataset
        images, pictures, ids = [], [], []
        for start in range(0, min(NUM_COUNTED, len(dataset)), BATCH):
            chosen = range(start, min(start + BATCH, NUM_COUNTED, len(dataset)))
            images.append(collate([dataset[i] for i in chosen])["image"])
            said = model.decompose(images[-1])
            pictures.append(said.reconstruction)
            ids.append(said.sprite_ids.amax(1))
        return clusters_panel(model.sprites.detach(), *map(torch.cat, (images, pictures, ids)), masks=_masks(model))


def edited(model: DTISprites, scene: SpriteScene, layer: int) -> dict[str, Tensor]:
    """Pictures (n, C, H, W) of one image, for each kind of edit that the model allows; one layer is edited."""

    def draw(edit: Callable[..., SpriteScene], values: Sequence) -> Tensor:
        return torch.cat([model.render(edit(model, scene, layer, value)).reconstruction for value in values])

    chosen = torch.linspace(0, model.num_sprites - 1, min(VARIANTS, model.num_sprites)).round().int().tolist()
    channels = model.image_channels
    colours = TARGETS if channels == 3 else [[grey] * channels for grey in torch.linspace(0, 1, VARIANTS).tolist()]
    rows = {"sprite": draw(swap, chosen)}
    if {"color", "linearcolor"} & (scene.layer.keys() | scene.own.keys()):
        rows["colour"] = draw(recolour, colours)
    height = float(places(model, scene)[0][0, layer - 1, 1])
    return rows | {"position": draw(move, [(x, height) for x in PLACES]), "scale": draw(scale, FACTORS)}


def _masks(model: DTISprites | DTIClustering) -> Tensor | None:
    return model.sprite_masks.detach() if isinstance(model, DTISprites) else None
