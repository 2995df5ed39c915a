"""Small parts that several methods share: initialised layers, coordinates, normalisation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def lecun_init(layer: nn.Module, fan_in: int | None = None) -> nn.Module:
    """Truncated normal weights with standard deviation 1/sqrt(fan_in), zero bias (Sonnet's default)."""
    std = 1 / math.sqrt(fan_in or layer.weight[0].numel())
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(layer.bias)
    return layer


def conv(n_in: int, n_out: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the size (stride 1) or divides it by the stride, rounding up; channels last."""
    layer = nn.Conv2d(n_in, n_out, kernel_size, stride, padding=kernel_size // 2)
    return lecun_init(layer).to(memory_format=torch.channels_last)


def deconv(n_in: int, n_out: int, kernel_size: int, stride: int = 1) -> nn.ConvTranspose2d:
    """Transposed convolution that multiplies the size by the stride; channels last."""
    layer = nn.ConvTranspose2d(n_in, n_out, kernel_size, stride, padding=kernel_size // 2, output_padding=stride - 1)
    return lecun_init(layer, n_in * kernel_size**2).to(memory_format=torch.channels_last)


def linear(n_in: int, n_out: int) -> nn.Linear:
    return lecun_init(nn.Linear(n_in, n_out))


def linear_coordinates(size: tuple[int, int], like: Tensor) -> Float[Tensor, "1 2 H W"]:
    """Row and column position, from -1 at the first to 1 at the last pixel."""
    axes = [torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0)


class SoftPosition(nn.Module):
    """A learned linear map of (y, x, 1 - y, 1 - x), each in [0, 1], to channels (Locatello et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4, channels)

    def forward(self, size: tuple[int, int]) -> Float[Tensor, "1 C H W"]:
        grid = (linear_coordinates(size, self.linear.weight) + 1) / 2
        return self.linear(torch.cat([grid, 1 - grid], 1).movedim(1, -1)).movedim(-1, 1)


def fourier_coordinates(size: tuple[int, int], like: Tensor, octaves: int) -> Float[Tensor, "1 L H W"]:
    """The linear coordinates y and x, then the sines and cosines of pi/2 2^i times both, for i < ``octaves``."""
    linear = linear_coordinates(size, like)
    angles = [math.pi / 2 * 2**i * linear for i in range(octaves)]
    return torch.cat([linear, *(wave(angle) for angle in angles for wave in (torch.sin, torch.cos))], 1)


def cosine_coordinates(size: tuple[int, int], like: Tensor, frequencies: int = 3) -> Float[Tensor, "1 L H W"]:
    """Products cos(pi i y) cos(pi j x) for i, j < frequencies without the constant one, y and x in [0, 1]."""
    y, x = (linear_coordinates(size, like) + 1).div(2).unbind(1)
    waves = [
        torch.cos(math.pi * i * y) * torch.cos(math.pi * j * x)
        for i in range(frequencies)
        for j in range(frequencies)
        if i or j
    ]
    return torch.stack(waves, 1)


class MapNorm(nn.Module):
    """LayerNorm of maps (B, K, C, H, W) over C, H, W, per image and slot; learned gain and bias per channel.

    A constant map becomes zero, whatever its value.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, maps: Float[Tensor, "B K C H W"]) -> Float[Tensor, "B K C H W"]:
        return torch.addcmul(self.bias, F.layer_norm(maps, maps.shape[2:]), self.gain)


def compute_dtype(like: Tensor) -> torch.dtype:
    """The dtype in which convolutions run on ``like``: that of autocast where it is on."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype


def elu(x: Tensor) -> Tensor:
    """ELU that overwrites its input."""
    return _ELU.apply(x)


def relu(x: Tensor) -> Tensor:
    """ReLU that overwrites its input."""
    return F.relu(x, inplace=True)


ACTIVATIONS = {"elu": elu, "relu": relu}


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = F.elu_(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, ctx.saved_tensors[0])
