"""A model and a dataset small enough to train in a test, importable from subprocesses too."""

import os
import signal
from pathlib import Path

import torch
from torch import nn

from unscene.data.dataset import SceneDataset
from unscene.models.base import Losses, SceneModel
from unscene.scenes import Decomposition


class ToyModel(SceneModel):
    """Predicts a colour and a flat mask per slot.

    Args:
        num_slots: K.
        noise: scale of the noise on the colours in training.
        nan_at: step at which the loss becomes NaN.
    """

    def __init__(self, num_slots: int = 3, noise: float = 0.1, nan_at: int = -1):
        super().__init__()
        self.noise, self.nan_at = noise, nan_at
        self.colour = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3 * num_slots))
        self.logit = nn.Parameter(torch.zeros(num_slots))

    def components(self, image):
        B, C, H, W = image.shape
        colours = self.colour(image.mean((2, 3))).view(B, -1, C)
        return colours[..., None, None].expand(-1, -1, -1, H, W)

    def decompose(self, image, *, num_slots=None):
        with torch.no_grad():
            components = self.components(image)
        B, K, _, H, W = components.shape
        masks = self.logit.detach().softmax(0).view(1, K, 1, 1).expand(B, K, H, W)
        return Decomposition(masks=masks, components=components, slots=components.mean((3, 4)))

    def loss(self, batch, step):
        image = batch["image"]
        mixture = (self.logit.softmax(0).view(1, -1, 1, 1, 1) * self.components(image)).sum(1)
        mixture = mixture + self.noise * torch.randn_like(mixture)
        error = ((mixture - image) ** 2).mean()
        if step == self.nan_at:
            error = error * torch.nan
        penalty = self.logit.square().sum()
        return Losses(error + penalty, {"error": error.detach(), "penalty": penalty.detach()})


class ToyScenes(SceneDataset):
    """Flat colours with one square; a pure function of the index.

    Args:
        num_scenes: number of scenes.
    """

    def __init__(self, num_scenes: int = 7):
        self.num_scenes = num_scenes

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        colours = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(i)) for i in indices])
        mask = torch.zeros(len(indices), 6, 5, dtype=torch.int64)
        mask[:, 1:4, 1:3] = 1
        image = colours[:, :, None, None] * (1 + mask[:, None].float()) / 2
        return {"image": image, "mask": mask}


def die_in_the_middle_of_writing(name: str, times: int = 1) -> None:
    """SIGKILL this process when a file ``name`` is complete, for the given time, but not yet in its place."""
    replace, targets = Path.replace, []

    def replace_or_die(self, target):
        targets.append(Path(target).name)
        if targets.count(name) == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = replace_or_die
