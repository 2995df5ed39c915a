"""The residual networks that see images for DTI-Sprites and DTI-Clustering: ResNet (He et al., CVPR 2016).

resnet20 and resnet32 are those of its experiments on CIFAR-10, with shortcuts that have no parameters; resnet18 is the
network of 18 layers for ImageNet. None has a classifier, and all start from random weights.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unscene.nn.blocks import relu

BLOCKS = {"resnet18": 2, "resnet20": 3, "resnet32": 5}  # per stage


class ResNet(nn.Module):
    """Features of images: stages of residual blocks, each at half the size of the one before, then averages.

    Convolutions start normal with variance 2 / fan-in (resnet18: 2 / fan-out).

    Args:
        name: which network.
        channels: C of the images.
        pool: averages are taken over the parts of a grid of pool x pool.

    ``size`` is D, the number of features: pool^2 times 64 (resnet18: 512).
    """

    def __init__(
        self, name: Literal["resnet18", "resnet20", "resnet32"] = "resnet32", channels: int = 3, pool: int = 1
    ) -> None:
        super().__init__()
        large = name == "resnet18"
        widths = [64, 64, 128, 256, 512] if large else [16, 16, 32, 64]
        kernel, stride = (7, 2) if large else (3, 1)
        layers = [_conv(channels, widths[0], kernel, stride), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        if large:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
            layers.append(Block(n_in, n_out, learned_shortcut=large))
            layers += [Block(n_out, n_out) for _ in range(BLOCKS[name] - 1)]
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if large else "fan_in", nonlinearity="relu")
        self.pool = pool
        self.size = widths[-1] * pool**2

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return F.adaptive_avg_pool2d(self.layers(image), self.pool).flatten(1)


class Block(nn.Module):
    """Two convolutions of 3 x 3 whose result is added to the input; where the width grows, the size is halved.

    There the shortcut takes every second pixel, and either a learned map of its channels or, without parameters, these
    between as many channels of zeros.
    """

    def __init__(self, n_in: int, n_out: int, learned_shortcut: bool = False) -> None:
        super().__init__()
        self.stride = 1 if n_in == n_out else 2
        self.extra = n_out - n_in
        self.conv1, self.norm1 = _conv(n_in, n_out, 3, self.stride), nn.BatchNorm2d(n_out)
        self.conv2, self.norm2 = _conv(n_out, n_out, 3), nn.BatchNorm2d(n_out)
        self.shortcut = None
        if learned_shortcut and self.extra:
            self.shortcut = nn.Sequential(_conv(n_in, n_out, 1, self.stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E h w"]:
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.extra:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra // 2))
        return relu(y.add_(x))


def _conv(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False).to(memory_format=torch.channels_last)
