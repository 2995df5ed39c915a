"""How often the sprites of a model are used in the images of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.evaluation.aligned import aligned
from unscene.evaluation.common import batches, count_scenes, undisturbed, usable_device
from unscene.models.base import SceneModel
from unscene.scenes import Scenes


class SpriteUsage(NamedTuple):
    """Counts of each sprite, and of how many images they are.

    ``layers`` counts the layers that show it, ``images`` the images in which at least one does.
    """

    layers: Int[Tensor, " K"]
    images: Int[Tensor, " K"]
    num_images: int

    def to_json(self) -> dict[str, Any]:
        counts = zip(self.layers.tolist(), self.images.tolist(), strict=True)
        sprites = [
            {"sprite": k, "layers": layers, "images": images, "share": images / self.num_images}
            for k, (layers, images) in enumerate(counts)
        ]
        return {"num_images": self.num_images, "sprites": sprites}

    def table(self) -> str:
        """Aligned text, one sprite per line."""
        rows = [
            (str(row["sprite"]), str(row["images"]), f"{row['share']:.1%}", str(row["layers"]))
            for row in self.to_json()["sprites"]
        ]
        return f"{aligned([('sprite', 'images', 'share', 'layers'), *rows])}\nin {self.num_images} images"


@torch.no_grad()
def sprite_usage(
    model: SceneModel,
    dataset: Dataset | Sequence[Scenes],
    *,
    limit: int | None = None,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> SpriteUsage:
    """Decompose the first ``limit`` images and count the ``sprite_ids``.

    Raises InputError for data that are no images, and for models without sprites.
    """
    num_scenes, device = count_scenes(dataset, limit, batch_size, 0, "32-true"), usable_device(device)
    layers = images = torch.zeros((), dtype=torch.int64)
    for start, batch in batches(dataset, num_scenes, batch_size):
        if batch["image"].ndim != 4:
            raise InputError("sprites are counted in images, but the dataset holds videos or views; choose another")
        with undisturbed(model, device, (0, start), "32-true"):
            ids = model.decompose(batch["image"].to(device)).sprite_ids
        if ids is None:
            raise InputError(f"{type(model).__name__} has no sprites; take weights of DTISprites or DTIClustering")
        counts = torch.nn.functional.one_hot(ids.cpu() + 1, model.num_sprites + 1)[..., 1:].sum(1)
        layers, images = layers + counts.sum(0), images + (counts > 0).sum(0)
        if progress is not None:
            progress(start + len(ids), num_scenes)
    return SpriteUsage(layers, images, num_scenes)
