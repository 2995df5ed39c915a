"""Transformations whose parameters networks read off the features of an image, switched on one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unscene.errors import InputError
from unscene.nn.predictors import Predictors
from unscene.nn.transforms import make_transforms
from unscene.nn.warps import Placement, Position, Translation, Warp

Parameters = dict[str, Tensor]


class PredictedTransforms(nn.Module):
    """The transformations ``sequence``, each with an MLP per index of ``stack`` that predicts its parameters.

    All MLPs end in zeros, so a transformation begins near the identity.

    Args:
        sequence: names joined by underscores and applied from left to right, such as "color_projective_tps".
        features: D, size of what the MLPs see.
        stack: axes of independent sets of MLPs, such as (L, K) for each sprite in each layer.
        milestones: optimisation steps after which the second, third, ... transformation becomes active;
            by default all are from the start.
        size: (h, w) of the maps that go in.
        out_size: (H, W) of those that come out.
        options: others of `make_transforms`: channels, padding and so on.

    Raises:
        InputError: names are unknown or milestones do not fit them.
    """

    def __init__(
        self,
        sequence: str,
        features: int,
        stack: Sequence[int] = (),
        milestones: Sequence[int] = (),
        *,
        size: Sequence[int],
        out_size: Sequence[int],
        **options: Any,
    ) -> None:
        super().__init__()
        self.transforms = make_transforms(sequence, size=size, out_size=out_size, **options)
        self.placing = Translation(tuple(out_size))
        if milestones and len(milestones) != len(self.transforms) - 1:
            raise InputError(
                f"{len(milestones)} milestones for the transformations {sequence!r}; give one for each but the first, "
                "or none to have all active from the start"
            )
        if list(milestones) != sorted(milestones):
            raise InputError(f"milestones {list(milestones)} of {sequence!r} must not fall")
        starts = [0, *milestones] if milestones else [0] * len(self.transforms)
        self.starts = dict(zip((transform.name for transform in self.transforms), starts, strict=True))
        if self.starts.get(Position.name) and tuple(size) != tuple(out_size):
            raise InputError(
                f"milestones {list(milestones)} of {sequence!r} switch position on later, but only it makes maps of "
                f"{tuple(size)} as large as {tuple(out_size)}; put it first, or give it milestone 0"
            )
        self.predictors = nn.ModuleDict(
            {t.name: Predictors(features, t.num_parameters, stack) for t in self.transforms if t.num_parameters}
        )

    @property
    def num_parameters(self) -> int:
        """Of all transformations together."""
        return sum(transform.num_parameters for transform in self.transforms)

    def predict(self, features: Float[Tensor, "B D"], step: int) -> Parameters:
        """Parameters (B, *stack, P) of each transformation that is active after ``step`` optimisation steps."""
        return {name: predictor(features) for name, predictor in self.predictors.items() if step >= self.starts[name]}

    def has_warp(self, parameters: Parameters) -> bool:
        """Is one of the active transformations a change of place?"""
        return any(isinstance(transform, Warp) and transform.name in parameters for transform in self.transforms)

    def forward(
        self, maps: Float[Tensor, "N *S E h w"], parameters: Parameters, placement: Placement | None = None
    ) -> Float[Tensor, "N *S E H W"]:
        """Transform maps, one or S of which share each row of the parameters (N, P).

        The last warp also does what ``placement`` says; where none is active, one is added for it. See `Warp`.
        """
        active = [(t, parameters[t.name]) for t in self.transforms if t.name in parameters]
        if placement is not None and not self.has_warp(parameters):
            active.append((self.placing, placement.new_zeros(len(placement), self.placing.num_parameters)))
        last = max((i for i, (transform, _) in enumerate(active) if isinstance(transform, Warp)), default=None)
        for i, (transform, beta) in enumerate(active):
            maps = transform(maps, beta, placement) if i == last else transform(maps, beta)
        return maps


def flat_rows(parameters: Parameters, axes: int) -> Parameters:
    """Parameters whose first ``axes`` axes are one."""
    return {name: values.flatten(0, axes - 1) for name, values in parameters.items()}


def of_chosen(parameters: Parameters, choice: Int[Tensor, "*B"]) -> Parameters:
    """Parameters (*B, P) of one of K networks each, of (*B, K, P); of the last for a choice of K or more."""
    return {
        name: values.take_along_dim(choice.clamp(max=values.shape[-2] - 1)[..., None, None], -2).squeeze(-2)
        for name, values in parameters.items()
    }


def joined(parameters: Parameters, total: int, like: Tensor) -> Tensor:
    """All parameters side by side (..., total), zeros for those of inactive transformations at the end."""
    values = torch.cat([*parameters.values(), like.new_zeros(*like.shape[:-1], 0)], -1)
    return torch.nn.functional.pad(values, (0, total - values.shape[-1]))
