"""Slot Attention (Locatello et al., NeurIPS 2020): its image encoder and its module, in parts that others share.

Initialised like the Keras layers in which its authors wrote it: Glorot-uniform weights, zero biases, orthogonal
recurrent weights. Their LayerNorm adds 1e-3 to the variance, and so does this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.nn.blocks import SoftPosition, conv, relu

NORM_EPSILON, ATTENTION_EPSILON = 1e-3, 1e-8


def glorot_init(layer: nn.Module) -> None:
    """Keras's default initialisation; for `nn.Module.apply`."""
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if isinstance(layer, nn.GRUCell):
        nn.init.xavier_uniform_(layer.weight_ih)
        nn.init.orthogonal_(layer.weight_hh)
        nn.init.zeros_(layer.bias_ih)
        nn.init.zeros_(layer.bias_hh)


def mlp(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))


def layer_norm(size: int) -> nn.LayerNorm:
    return nn.LayerNorm(size, eps=NORM_EPSILON)


class ImageEncoder(nn.Module):
    """Convolutions, a position, and an MLP at every pixel: images in [0, 1] become sets of N features of size E.

    Args:
        image_channels: C.
        channels: of the convolutions; the last is E.
        kernel_size: of the convolutions.
        strides: of the convolutions, by default all 1, which leaves N = HW.
    """

    def __init__(
        self, image_channels: int, channels: Sequence[int], kernel_size: int, strides: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        widths = zip([image_channels, *channels[:-1]], channels, strides or [1] * len(channels), strict=True)
        self.convs = nn.ModuleList(conv(n_in, n_out, kernel_size, stride) for n_in, n_out, stride in widths)
        self.position = SoftPosition(channels[-1])
        self.norm = layer_norm(channels[-1])
        self.mlp = mlp(channels[-1], channels[-1], channels[-1])

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N E"]:
        """The features in float32 (or the dtype of the weights), whatever the convolutions run in."""
        x = (2 * image - 1).contiguous(memory_format=torch.channels_last)
        for layer in self.convs:
            x = relu(layer(x))
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.norm.weight.dtype) + self.position(tuple(x.shape[-2:]))
            return self.mlp(self.norm(x.flatten(2).mT))


class Competition(nn.Module):
    """How slots read features: they compete for each one, then average the values of what they won."""

    def __init__(self, feature_size: int, slot_size: int) -> None:
        super().__init__()
        self.norm_features, self.norm_slots = layer_norm(feature_size), layer_norm(slot_size)
        self.key, self.value = (nn.Linear(feature_size, slot_size, bias=False) for _ in range(2))
        self.query = nn.Linear(slot_size, slot_size, bias=False)

    def prepare(self, features: Float[Tensor, "B N E"]) -> tuple[Tensor, Tensor]:
        """Keys and values (B, N, D), to be computed once for all iterations."""
        features = self.norm_features(features)
        return self.key(features), self.value(features)

    def forward(self, slots: Float[Tensor, "B K D"], keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What each slot reads (B, K, D), and the attention (B, K, N), which sums to 1 over slots."""
        queries = self.query(self.norm_slots(slots)) * slots.shape[2] ** -0.5
        attention = (queries @ keys.mT).softmax(1)
        weights = attention + ATTENTION_EPSILON
        return (weights @ values) / weights.sum(2, keepdim=True), attention


class ResidualMLP(nn.Module):
    """x + MLP(LayerNorm(x))."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.mlp = layer_norm(size), mlp(size, hidden, size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class SlotAttentionModule(nn.Module):
    """Slots drawn from one learned Gaussian, which read the features and change, again and again.

    Args:
        feature_size: E.
        slot_size: D.
        hidden: width of the MLP behind the GRU.
    """

    def __init__(self, feature_size: int, slot_size: int, hidden: int) -> None:
        super().__init__()
        self.mean, self.log_scale = (nn.Parameter(torch.empty(1, slot_size)) for _ in range(2))
        self.competition = Competition(feature_size, slot_size)
        self.gru = nn.GRUCell(slot_size, slot_size)
        self.mlp = ResidualMLP(slot_size, hidden)
        for parameter in (self.mean, self.log_scale):
            nn.init.xavier_uniform_(parameter)

    def forward(
        self, features: Float[Tensor, "B N E"], num_slots: int, iterations: int
    ) -> list[Float[Tensor, "B K D"]]:
        """The slots after each iteration; the noise they start from comes from torch's global generator."""
        with torch.autocast(features.device.type, enabled=False):
            keys, values = self.competition.prepare(features)
            start = self.mean.expand(len(features), num_slots, -1)
            history = [start + self.log_scale.exp() * torch.randn_like(start)]
            for _ in range(iterations):
                history.append(self.step(history[-1], keys, values))
        return history[1:]

    def step(self, slots: Float[Tensor, "B K D"], keys: Tensor, values: Tensor) -> Float[Tensor, "B K D"]:
        """One iteration."""
        read, _ = self.competition(slots, keys, values)
        return self.mlp(self.gru(read.flatten(0, 1), slots.flatten(0, 1)).view_as(slots))
