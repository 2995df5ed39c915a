"""The first layers of SqueezeNet 1.1 (Iandola et al., 2016) as in torchvision, and what PROVIDE puts behind them."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError


class Fire(nn.Module):
    """Squeeze to few channels, then expand them by 1x1 and 3x3 convolutions."""

    def __init__(self, n_in: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(n_in, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeFeatures(nn.Module):
    """Features of images: resized to 257 x 257 (nearest), five modules of SqueezeNet, convolutions to 16 channels.

    All of it is trained, and images are not normalised as for ImageNet, both as in PROVIDE's official code.

    Args:
        weights: file of a state dict in torchvision's layout (``features.0.weight``, ...) for the SqueezeNet part,
            without which that starts from random weights.

    Raises:
        InputError: the file is missing or holds other weights.
    """

    out_channels = 16

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
        )
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in ((128, 64), (64, 32), (32, self.out_channels))
        )
        if weights is not None:
            self._read(Path(weights).expanduser())

    def forward(self, image: Float[Tensor, "B 3 64 64"]) -> Float[Tensor, "B 16 64 64"]:
        x = self.squeeze(F.interpolate(image, size=(257, 257), mode="nearest"))
        for layer in self.convs:
            x = F.elu(layer(x))
        return x

    def _read(self, file: Path) -> None:
        wanted = {f"features.{name}": name for name in self.squeeze.state_dict()}
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            self.squeeze.load_state_dict({ours: state[theirs] for theirs, ours in wanted.items()})
        except FileNotFoundError as error:
            raise InputError(
                f"feature_weights {file} does not exist; leave it out to start from random ones"
            ) from error
        except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"feature_weights {file} holds no weights of torchvision's squeezenet1_1; "
                "save its state_dict() with torch.save"
            ) from error
