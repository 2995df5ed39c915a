"""A model with prototypes, with the attributes that trainings of sprite models rely on, small enough for tests."""

import torch
from torch import nn

from unscene.data.dataset import SceneDataset
from unscene.models.base import Losses, SceneModel
from unscene.scenes import Decomposition


class ToySprites(SceneModel):
    """Each of L layers tells an image by one of K flat grey prototypes, or by the empty one, which is black.

    Args:
        num_sprites: K.
        num_layers: L.
        empty: whether there is an empty candidate.
        frozen_steps: nothing is reassigned before.
    """

    def __init__(self, num_sprites: int = 3, num_layers: int = 2, empty: bool = False, frozen_steps: int = 0):
        super().__init__()
        self.num_layers, self.frozen_steps = num_layers, frozen_steps
        start = torch.linspace(0.1, 0.9, num_sprites)[:, None, None, None]
        self.sprites = nn.Parameter(start.expand(-1, 3, 2, 2).clone())
        self.shift = nn.Parameter(torch.zeros(num_layers, num_sprites))
        self.gain = nn.Parameter(torch.ones(()))
        self.register_buffer("usage", torch.zeros(num_layers, num_sprites + empty))
        self.register_buffer("usage_images", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def frozen(self):
        return bool(self.steps < self.frozen_steps)

    def prototype_axes(self):
        return {"sprites": 0, "shift": 1}

    def start_from(self, images, generator):
        with torch.no_grad():
            noise = 0.01 * torch.rand((len(self.sprites), 1, 1, 1), generator=generator)
            self.sprites.copy_(noise + images.mean() * torch.linspace(0.9, 1.1, len(self.sprites)).view(-1, 1, 1, 1))

    def decompose(self, image, *, num_slots=None):
        B, C, H, W = image.shape
        return Decomposition(torch.ones(B, 1, H, W), image[:, None], image.mean((2, 3))[:, None])

    def loss(self, batch, step):
        grey = batch["image"].mean((1, 2, 3))
        prototypes = self.gain * (self.sprites.mean((1, 2, 3)) + self.shift)
        empty = prototypes.new_zeros(self.num_layers, self.usage.shape[1] - len(self.sprites))
        errors = (grey[:, None, None] - torch.cat([prototypes, empty], 1)) ** 2
        lowest, winner = errors.min(2)
        if self.training:
            self.usage += nn.functional.one_hot(winner, errors.shape[2]).sum(0)
            self.usage_images += len(grey)
            self.steps.fill_(step + 1)
        return Losses(lowest.mean(), {})


class Greys(SceneDataset):
    """Flat images; the brightness is a pure function of the index.

    Args:
        num_scenes: number of scenes.
        low: brightness of the darkest.
        high: brightness of the brightest.
    """

    def __init__(self, num_scenes: int = 20, low: float = 0.7, high: float = 1.0):
        self.num_scenes, self.low, self.high = num_scenes, low, high

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        grey = self.low + (self.high - self.low) * torch.tensor(list(indices)) / self.num_scenes
        return {"image": grey.view(-1, 1, 1, 1).expand(-1, 3, 4, 5).clone()}
