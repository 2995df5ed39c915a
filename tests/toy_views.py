"""Scenes of several views and a model that knows them, importable from all tests."""

import torch
from torch import nn

from unscene.data.dataset import SceneDataset
from unscene.models.base import Losses, MultiViewModel
from unscene.scenes import Decomposition


class ToyViews(SceneDataset):
    """A red (id 1) and a green block (id 2) on black; from viewpoint v they stand v pixels to the right.

    Args:
        num_scenes: scene i has a gap of i pixels between its blocks.
        num_views: V.
        labels: whether there are masks.
    """

    def __init__(self, num_scenes: int = 3, num_views: int = 5, labels: bool = True):
        self.num_scenes, self.num_views, self.labels = num_scenes, num_views, labels

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        viewpoint = torch.arange(self.num_views).float().expand(len(indices), -1).unsqueeze(2)
        image = torch.stack([paint(indices, v) for v in range(self.num_views)], 1)
        scenes = {"image": image, "viewpoint": viewpoint}
        return scenes | ({"mask": image[:, :, 0].long() + 2 * image[:, :, 1].long()} if self.labels else {})


def paint(gaps, view):
    """Scenes (B, 3, 8, 14) with the given gaps, from one viewpoint."""
    image = torch.zeros(len(gaps), 3, 8, 14)
    for picture, gap in zip(image, gaps, strict=True):
        picture[0, :3, view : view + 3] = 1
        picture[1, 4 + gap :, view : view + 3] = 1
    return image


class ToyMultiView(MultiViewModel):
    """Measures the gap, which is all that its slots are, and paints the scene again.

    Args:
        swap_from: from this viewpoint on the objects exchange slots.
        blind_from: from this viewpoint on it paints black.
        scale: standard deviation of the slots; None has none.
    """

    view_size = 1

    def __init__(self, swap_from: int = 99, blind_from: int = 99, scale: float | None = None):
        super().__init__()
        self.swap_from, self.blind_from, self.scale = swap_from, blind_from, scale
        self.unused = nn.Parameter(torch.zeros(1))

    def decompose(self, image, viewpoint=None, *, num_slots=None):
        self.seen = viewpoint[..., 0]
        gap = 4 - image[:, 0, 1].amax(2).sum(1)
        slots = gap[:, None, None].expand(-1, num_slots or 3, 2)
        d, slots = self.render(slots, viewpoint), slots[:, None].expand(-1, image.shape[1], -1, -1)
        scale = None if self.scale is None else torch.full_like(slots, self.scale)
        return Decomposition(d.masks, d.components, slots, slot_scale=scale)

    def render(self, slots, viewpoint, size=None):
        gaps = slots[:, 0, 0].round().clamp(0, 3).int().tolist()
        image = torch.stack(
            [
                torch.cat([paint([gap], int(v)) for v in views])
                for gap, views in zip(gaps, viewpoint[..., 0].tolist(), strict=True)
            ]
        )
        labels = (image[:, :, 0] + 2 * image[:, :, 1]).long()
        swapped = viewpoint[..., 0, None, None] >= self.swap_from
        labels = torch.where((labels > 0) & swapped, 3 - labels, labels)
        masks = nn.functional.one_hot(labels, slots.shape[1]).movedim(-1, 2).float()
        visible = (viewpoint[..., 0] < self.blind_from).float()[..., None, None, None, None]
        components = image.unsqueeze(2).expand(-1, -1, slots.shape[1], -1, -1, -1) * visible
        return Decomposition(masks, components, slots[:, None].expand(-1, viewpoint.shape[1], -1, -1))

    def loss(self, batch, step):
        return Losses(self.unused.sum(), {})
