"""Instance or group normalisation and ReLU in one, for maps in any memory layout."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unscene.errors import InputError


class NormRelu(nn.Module):
    """ReLU of maps that are normalised per image and group of channels, with gain and bias per channel.

    The framework's instance normalisation copies channels-last maps, and the backward pass of its group normalisation
    is slow on them. Here both directions are a few elementwise operations and sums. The arithmetic is in float32 (or
    in float64 where the maps are), the output in the dtype of the maps.

    Args:
        channels: C.
        groups: of channels; C of them make it an instance normalisation.
        eps: added to the variance.

    Raises:
        InputError: the channels cannot be divided into so many groups of one size.
    """

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        if channels % groups:
            raise InputError(
                f"{channels} channels cannot be normalised in {groups} groups; give a multiple of {groups}"
            )
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return _NormRelu.apply(x, self.weight[:, None, None], self.bias[:, None, None], self.groups, self.eps)


class _NormRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = precise - _group_means(precise.mean((2, 3), keepdim=True), groups)  # first, so that nothing cancels
        rstd = (_group_means(centred.square().mean((2, 3), keepdim=True), groups) + eps).rsqrt()
        normed = centred.mul_(rstd)
        y = torch.addcmul(bias, normed, weight).relu_().to(x.dtype)
        ctx.save_for_backward(normed.to(x.dtype), y, rstd, weight)
        ctx.groups = groups
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_y: Tensor) -> tuple[Tensor | None, ...]:
        normed, y, rstd, weight = ctx.saved_tensors
        d_y, normed = torch.ops.aten.threshold_backward(d_y, y, 0).to(rstd.dtype), normed.to(rstd.dtype)
        pixels = y.shape[2] * y.shape[3]
        d_bias, d_weight = d_y.sum((2, 3), keepdim=True), (d_y * normed).sum((2, 3), keepdim=True)
        offset, slope = (-rstd * _group_means(weight * d / pixels, ctx.groups) for d in (d_bias, d_weight))
        d_x = torch.addcmul(offset, normed, slope).addcmul_(d_y, weight * rstd)
        return d_x.to(y.dtype), d_weight.sum(0), d_bias.sum(0), None, None


def _group_means(of_channels: Float[Tensor, "B C 1 1"], groups: int) -> Float[Tensor, "B C 1 1"]:
    """Each channel's value replaced by the mean of its group."""
    if groups == of_channels.shape[1]:
        return of_channels
    of_groups = of_channels.unflatten(1, (groups, -1))
    return of_groups.mean(2, keepdim=True).expand_as(of_groups).flatten(1, 2)
