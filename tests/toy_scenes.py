"""A model and a dataset small enough to train in a test, importable from subprocesses too."""

import os
import signal
from pathlib import Path

import torch
from torch import nn

from unscene.data.dataset import SceneDataset
from unscene.models.base import Losses, SceneModel, VideoModel
from unscene.scenes import Decomposition


class ToyModel(SceneModel):
    """Predicts a colour and a flat mask per slot.

    Args:
        num_slots: K.
        noise: scale of the noise on the colours in training.
        nan_at: step at which the loss becomes NaN; None for never.
    """

    def __init__(self, num_slots: int = 3, noise: float = 0.1, nan_at: int | None = -1):
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


class ToyVideos(SceneDataset):
    """Two blocks of 3 x 3, red (id 1) and green (id 2), that move to the right by one pixel per frame.

    Args:
        num_scenes: number of videos.
        num_frames: T, up to 12.
    """

    def __init__(self, num_scenes: int = 3, num_frames: int = 6):
        self.num_scenes, self.num_frames = num_scenes, num_frames

    def __len__(self):
        return self.num_scenes

    def batch(self, indices):
        mask = torch.zeros(len(indices), self.num_frames, 8, 14, dtype=torch.int64)
        for video, i in zip(mask, indices, strict=True):
            for t, frame in enumerate(video):
                frame[:3, t : t + 3] = 1
                frame[4 + i % 2 :, t : t + 3] = 2
        return {"image": torch.eye(4)[1:][:, mask].movedim(0, 2).contiguous(), "mask": mask}


class ToyVideoModel(VideoModel):
    """Slots are red, green and what is neither. From frame ``swap_at`` on the objects exchange slots.

    What it predicts is its last frame, moved to the right by one pixel per frame.

    Args:
        num_slots: K.
        swap_at: frame, never by default.
    """

    def __init__(self, num_slots: int = 3, swap_at: int = 10**6):
        super().__init__()
        self.num_slots, self.swap_at = num_slots, swap_at
        self.unused = nn.Parameter(torch.zeros(1))

    def stream(self, frames, *, num_slots=None, horizon=0):
        K = num_slots or self.num_slots
        for t, frame in enumerate(frames):
            yield self.explain(frame, K, t >= self.swap_at)
        for _ in range(horizon):
            frame = frame.roll(1, -1)
            yield self.explain(frame, K, t >= self.swap_at)

    def explain(self, frame, num_slots, swapped):
        weights = torch.stack([0.5 - frame.amax(1), *frame.unbind(1)[:2]], 1)
        labels = weights.argmax(1)
        labels = torch.where((labels > 0) & swapped, 3 - labels, labels)
        masks = nn.functional.one_hot(labels, num_slots).movedim(-1, 1).float()
        components = frame[:, None].expand(-1, num_slots, -1, -1, -1)
        return Decomposition(masks, components, slots=masks.mean((2, 3))[..., None])

    def loss(self, batch, step):
        return Losses(self.unused.sum(), {"zero": torch.zeros(())})


def die_in_the_middle_of_writing(name: str, times: int = 1) -> None:
    """SIGKILL this process when a file ``name`` is complete, for the given time, but not yet in its place."""
    replace, targets = Path.replace, []

    def replace_or_die(self, target):
        targets.append(Path(target).name)
        if targets.count(name) == times:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = replace_or_die
