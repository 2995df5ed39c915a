"""The transformations of DTI-Sprites and DTI-Clustering (Monnier et al., 2020 and 2021), by name: colours and shapes.

A sequence such as "color_projective_tps" is applied from left to right. Warps are in `unscene.nn.warps`. Both papers'
networks predict a transformation's parameters, zero at the start; all transformations but position and morpho, and the
thin-plate spline with the reference code's sampling, are then the identity on values in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unscene.errors import InputError
from unscene.nn.warps import (
    Affine,
    Identity,
    Padding,
    Position,
    Projective,
    Rotation,
    Similarity,
    ThinPlate,
    Transform,
    Translation,
    Warp,
    working_dtype,
)

SOFT_SLOPE = 0.01  # of the soft clamp outside [0, 1]
MORPHO_LOGIT = 5.0  # of the weight of a window's middle at beta = 0, and minus that of the others
MORPHO_RANGE = 60.0  # of exponents: e^-60 and the sums of it are still ordinary float32


def soft_clamp(x: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """x in [0, 1], and beyond it a slope of 0.01, so that gradients bring values back."""
    return torch.lerp(x.clamp(0, 1), x, SOFT_SLOPE)


class Colour(Transform):
    """beta = (w_1, b_1, w_2, b_2, ...): colour c becomes (1 + w_c) c + b_c, softly clamped. Other channels stay.

    Args:
        channels: C.
        clamp: without, colours are not clamped (DTI-Clustering).
    """

    name = "color"

    def __init__(self, channels: int, clamp: bool = True) -> None:
        self.channels, self.clamp = channels, clamp
        self.num_parameters = 2 * channels

    def __call__(self, maps: Float[Tensor, "N *S E h w"], beta: Float[Tensor, "N P"]) -> Float[Tensor, "N *S E h w"]:
        gain, shift = self.gain_and_shift(beta.to(working_dtype(maps, beta)))
        per_row = (-1, *[1] * (maps.ndim - 4), self.channels, 1, 1)
        colours = maps[..., : self.channels, :, :] * (1 + gain).view(per_row) + shift.view(per_row)
        return _with_others(soft_clamp(colours) if self.clamp else colours, maps)

    def gain_and_shift(self, beta: Float[Tensor, "N P"]) -> tuple[Tensor, Tensor]:
        return beta[:, ::2], beta[:, 1::2]


class LinearColour(Colour):
    """beta = (w_1, w_2, ...): the gain of `Colour` without its shift, so that black stays black."""

    name = "linearcolor"

    def __init__(self, channels: int, clamp: bool = True) -> None:
        super().__init__(channels, clamp)
        self.num_parameters = channels

    def gain_and_shift(self, beta: Float[Tensor, "N P"]) -> tuple[Tensor, Tensor]:
        return beta, torch.zeros_like(beta)


class Morpho(Transform):
    """Soft dilation, erosion and blur of grey maps: beta = (a, weights of a window).

    A pixel becomes the mean of the k x k values v around it, with 0 beyond the border, weighed by
    e^(a v) sigmoid(weight); the weights are those of beta plus 5 in the middle and minus 5 elsewhere. Where a v falls
    60 short of the map's largest it counts as 60 short. Channels other than the first stay.

    Args:
        kernel: k, odd.
    """

    name = "morpho"

    def __init__(self, kernel: int = 7) -> None:
        self.kernel = kernel
        self.num_parameters = 1 + kernel**2

    def __call__(self, maps: Float[Tensor, "N *S E h w"], beta: Float[Tensor, "N P"]) -> Float[Tensor, "N *S E h w"]:
        dtype = working_dtype(maps, beta)
        values = maps[..., 0, :, :].to(dtype).unflatten(0, (-1, 1)).flatten(1, -3).transpose(0, 1)  # S N h w
        alpha, weights = beta.to(dtype).split([1, self.kernel**2], 1)
        with torch.autocast(maps.device.type, enabled=False):
            out = self._weighted(values, alpha.view(-1, 1, 1), self._window(weights))
        return _with_others(out.transpose(0, 1).reshape_as(maps[..., :1, :, :]), maps)

    def _window(self, weights: Float[Tensor, "N P"]) -> Float[Tensor, "N 1 k k"]:
        weights = weights - MORPHO_LOGIT
        middle = F.one_hot(torch.tensor(self.kernel**2 // 2, device=weights.device), self.kernel**2)
        return (weights + 2 * MORPHO_LOGIT * middle).sigmoid().view(-1, 1, self.kernel, self.kernel)

    def _weighted(
        self, values: Float[Tensor, "S N h w"], alpha: Float[Tensor, "N 1 1"], window: Float[Tensor, "N 1 k k"]
    ) -> Float[Tensor, "S N h w"]:
        """The mean as a quotient of two convolutions, each row with its own window."""
        values = F.pad(values, [self.kernel // 2] * 4)
        exponent = alpha * values
        exponent = (exponent - exponent.detach().amax((2, 3), keepdim=True)).clamp(min=-MORPHO_RANGE)
        weights = exponent.exp()
        over, under = (F.conv2d(x, window, groups=len(window)) for x in (weights * values, weights))
        return over / under


WARPS: dict[str, type[Warp]] = {
    warp.name: warp for warp in (Affine, Position, Similarity, Projective, ThinPlate, Translation, Rotation)
}
COLOURS: dict[str, type[Colour]] = {colour.name: colour for colour in (Colour, LinearColour)}
KNOWN = (Identity.name, *COLOURS, *WARPS, Morpho.name)


def make_transforms(
    sequence: str,
    channels: int,
    size: Sequence[int],
    out_size: Sequence[int],
    padding: Padding = "zeros",
    clamp: bool = True,
    tps_reference_sampling: bool = False,
    morpho_kernel: int = 7,
) -> list[Transform]:
    """The transformations that a sequence names, in its order.

    Args:
        sequence: names joined by "_", each at most once, such as "color_position".
        channels: C, the colours among the channels of maps; the others (masks, footprints) are warped with them.
        size: (h, w) of the maps that go in.
        out_size: (H, W) of the maps that come out. Only "position" changes the size.
        padding: what warps see outside a map: nothing, or its border.
        clamp: colour transformations end in a soft clamp.
        tps_reference_sampling: see `ThinPlate`.
        morpho_kernel: side of the window of "morpho".

    Raises:
        InputError: a name is unknown or comes twice, sizes differ without "position", or colours are given to "morpho".
    """
    names = sequence.split("_")
    _check(names, sequence, channels, tuple(size), tuple(out_size), morpho_kernel)
    transforms, here = [], tuple(size)
    for name in names:
        here = tuple(out_size) if name == Position.name else here
        if name in COLOURS:
            transforms.append(COLOURS[name](channels, clamp))
        elif name == Morpho.name:
            transforms.append(Morpho(morpho_kernel))
        elif name == ThinPlate.name:
            transforms.append(ThinPlate(here, padding, tps_reference_sampling))
        else:
            transforms.append(WARPS[name](here, padding) if name in WARPS else Identity())
    return transforms


def _check(names: list[str], sequence: str, channels: int, size: tuple, out_size: tuple, morpho_kernel: int) -> None:
    for name in names:
        if name not in KNOWN:
            raise InputError(f'transformation "{name}" of "{sequence}" is unknown; known are {", ".join(KNOWN)}')
        if names.count(name) > 1:
            raise InputError(f'transformation "{name}" comes twice in "{sequence}"; name it once')
    if size != out_size and Position.name not in names:
        raise InputError(
            f'"{sequence}" keeps the size {size}, but {out_size} is wanted; add "position", or let both be the same'
        )
    if Morpho.name in names and channels != 1:
        raise InputError(f'"{sequence}" has morpho, which is for grey images, but there are {channels} channels')
    if Morpho.name in names and (morpho_kernel < 1 or morpho_kernel % 2 == 0):
        raise InputError(f"morpho_kernel is {morpho_kernel}; it must be odd, so that windows have a middle")


def _with_others(changed: Float[Tensor, "N *S C h w"], maps: Float[Tensor, "N *S E h w"]) -> Tensor:
    """The first channels changed, the others as in maps."""
    others = maps[..., changed.shape[-3] :, :, :]
    return torch.cat([changed, others], -3) if others.shape[-3] else changed
