"""Warps of sprites, backgrounds and prototypes by a few predicted parameters (DTI-Sprites, Monnier et al., ICCV 2021).

All are backward warps with bilinear sampling: for each pixel of the output, at u = (x, y), they say which place of the
input is seen there. Places are in [-1, 1], x to the right and y down, whatever the size of the map: rotations of a map
that is not square are not rigid. Pixels are taken as squares (the outermost centres lie half a pixel inside -1 and 1),
but by `Projective` and `ThinPlate` as points (the outermost centres lie at -1 and 1), as in the reference code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CONTROL_POINTS = 4  # per side, of the thin-plate spline
LARGEST_S = 20.0  # of a position
SMALLEST_DEPTH = 1e-8  # of a projection; below it, points are not divided by their depth

Padding = Literal["zeros", "border"]
Placement = Float[Tensor, "N 3"]
Axes = tuple[Float[Tensor, "M 1 1 W"], Float[Tensor, "M 1 H 1"]]


class Transform(ABC):
    """What changes maps by ``num_parameters`` numbers per row, which a network predicts and which are 0 at its start.

    Maps (N, E, h, w) have one row of parameters each. In maps (N, S, E, h, w), S maps share each row; the result is
    that of S calls, but a warp finds its places only once. Of the E channels the first C are colours. What does not
    depend on the row may come expanded along N: warps do not copy it.
    """

    name: str
    num_parameters: int

    @abstractmethod
    def __call__(self, maps: Float[Tensor, "N *S E h w"], beta: Float[Tensor, "N P"]) -> Float[Tensor, "N *S E H W"]:
        """The changed maps."""


class Identity(Transform):
    """Leaves maps as they are."""

    name, num_parameters = "identity", 0

    def __call__(self, maps: Float[Tensor, "N *S E h w"], beta: Float[Tensor, "N 0"]) -> Float[Tensor, "N *S E h w"]:
        return maps


class Warp(Transform):
    """A change of place. Places are computed and maps sampled in float32 at least, also where autocast is on.

    A ``placement`` (r, x, y) of each row moves and scales what comes out: all that would be at u is at r u + (x, y). It
    only changes where the map is looked up, so nothing is sampled twice, or cut off before it comes back. What it takes
    from beyond the frame is looked up as if the warp went on there as a mere shift, unless it is linear: homographies
    and splines could fold back.

    Args:
        out_size: (H, W).
        padding: what is seen outside the map: nothing, or its border.
    """

    points = False  # pixels are points

    def __init__(self, out_size: tuple[int, int], padding: Padding = "zeros") -> None:
        self.out_size, self.padding = out_size, padding
        self.sampled_as_points = self.points

    def __call__(
        self, maps: Float[Tensor, "N *S E h w"], beta: Float[Tensor, "N P"], placement: Placement | None = None
    ) -> Float[Tensor, "N *S E H W"]:
        dtype = working_dtype(maps, beta)
        with torch.autocast(maps.device.type, enabled=False):
            out = F.grid_sample(
                maps.flatten(1, -3).to(dtype),
                self.places(beta.to(dtype), placement).movedim(1, -1),
                padding_mode=self.padding,
                align_corners=self.sampled_as_points,
            )
        return out.unflatten(1, maps.shape[1:-2])

    @abstractmethod
    def places(self, beta: Float[Tensor, "N P"], placement: Placement | None = None) -> Float[Tensor, "N 2 H W"]:
        """The places (x, y) of the input that the output shows."""

    def axes(self, beta: Float[Tensor, "N P"], placement: Placement | None) -> Axes:
        """x and y of the output's pixels before their placement; one row for all, or N."""
        x, y = _axes(self.out_size, self.points, beta.dtype, beta.device)
        x, y = x.view(1, 1, 1, -1), y.view(1, 1, -1, 1)
        if placement is None:
            return x, y
        factor, *offsets = placement.to(beta)[..., None, None, None].unbind(1)
        # Where pixels are points, 1 is a little further in: at the centre of the outermost pixel, not at its edge.
        dy, dx = (o * n / max(n - self.points, 1) for o, n in zip(offsets[::-1], self.out_size, strict=True))
        return (x - dx) / factor, (y - dy) / factor


class LinearWarp(Warp):
    """A warp whose places are a matrix times (x, y, 1)."""

    def places(self, beta: Float[Tensor, "N P"], placement: Placement | None = None) -> Float[Tensor, "N 2 H W"]:
        return _linear(self.matrix(beta), *self.axes(beta, placement))

    @abstractmethod
    def matrix(self, beta: Float[Tensor, "N P"]) -> Float[Tensor, "N 2 3"]:
        """The matrix of each row."""


class Affine(LinearWarp):
    """beta, row by row, is added to the matrix of the identity."""

    name, num_parameters = "affine", 6

    def matrix(self, beta: Float[Tensor, "N 6"]) -> Float[Tensor, "N 2 3"]:
        return beta.unflatten(1, (2, 3)) + torch.eye(2, 3, dtype=beta.dtype, device=beta.device)


class Position(LinearWarp):
    """beta = (s, tx, ty) puts the whole map, e^s + 1 times smaller than the frame, at -t / (e^s + 1) in it.

    At beta = 0 that is half the frame's side in its middle: the prior on the scale of objects. Maps take the size of
    the frame here. Above s = 20, where no image has pixels small enough to show the map, s counts as 20, as otherwise
    e^s would make places infinite and the sampled values NaN.
    """

    name, num_parameters = "position", 3

    def matrix(self, beta: Float[Tensor, "N 3"]) -> Float[Tensor, "N 2 3"]:
        s, tx, ty = beta.unbind(1)
        scale, zero = s.clamp(max=LARGEST_S).exp() + 1, torch.zeros_like(s)
        return _matrix(scale, zero, tx, zero, scale, ty)


class Similarity(LinearWarp):
    """beta = (a, b, tx, ty): rotation and scaling by the complex number (1 + a) + ib, then translation."""

    name, num_parameters = "similarity", 4

    def matrix(self, beta: Float[Tensor, "N 4"]) -> Float[Tensor, "N 2 3"]:
        a, b, tx, ty = beta.unbind(1)
        return _matrix(1 + a, -b, tx, b, 1 + a, ty)


class Translation(LinearWarp):
    """beta = (tx, ty) is added to places, so that maps move the other way."""

    name, num_parameters = "translation", 2

    def matrix(self, beta: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2 3"]:
        tx, ty = beta.unbind(1)
        one, zero = torch.ones_like(tx), torch.zeros_like(tx)
        return _matrix(one, zero, tx, zero, one, ty)


class Rotation(LinearWarp):
    """beta is an angle in radians about the middle; maps turn anticlockwise as one sees them."""

    name, num_parameters = "rotation", 1

    def matrix(self, beta: Float[Tensor, "N 1"]) -> Float[Tensor, "N 2 3"]:
        cos, sin, zero = beta[:, 0].cos(), beta[:, 0].sin(), torch.zeros_like(beta[:, 0])
        return _matrix(cos, -sin, zero, sin, cos, zero)


class Projective(Warp):
    """A homography: the identity plus beta, row by row, which is not normalised."""

    name, num_parameters = "projective", 9
    points = True

    def places(self, beta: Float[Tensor, "N 9"], placement: Placement | None = None) -> Float[Tensor, "N 2 H W"]:
        eye = torch.eye(3, dtype=beta.dtype, device=beta.device)
        x, y = self.axes(beta, placement)
        inside = x.clamp(-1, 1), y.clamp(-1, 1)
        xy, depth = _linear(beta.unflatten(1, (3, 3)) + eye, *inside).split([2, 1], 1)
        places = xy / torch.where(depth.abs() > SMALLEST_DEPTH, depth, 1)
        if placement is None:
            return places
        return places + torch.cat(torch.broadcast_tensors(x - inside[0], y - inside[1]), 1)


class ThinPlate(Warp):
    """A thin-plate spline: beta, row by row, are the displacements (x, y) of a regular grid of control points.

    Places are exactly linear in beta: the spline's system is solved once for each size, in float64.

    Args:
        out_size: (H, W).
        padding: as of any warp.
        reference_sampling: as the reference code, take pixels as points for the places but as squares when sampling,
            which is not the identity at beta = 0: the map shrinks by half a pixel on each side.
    """

    name, num_parameters = "tps", 2 * CONTROL_POINTS**2
    points = True

    def __init__(self, out_size: tuple[int, int], padding: Padding = "zeros", reference_sampling: bool = False) -> None:
        super().__init__(out_size, padding)
        self.sampled_as_points = not reference_sampling

    def places(self, beta: Float[Tensor, "N 32"], placement: Placement | None = None) -> Float[Tensor, "N 2 H W"]:
        x, y = self.axes(beta, placement)
        if placement is None:
            spline = _spline(self.out_size, beta.dtype, beta.device)
        else:
            rows = zip(y.flatten(1).clamp(-1, 1), x.flatten(1).clamp(-1, 1), strict=True)
            spline = torch.stack([_spline_at(torch.cartesian_prod(*row)) for row in rows])
        displacements = beta.unflatten(1, (-1, 2)).mT @ spline.to(beta)
        return torch.cat(torch.broadcast_tensors(x, y), 1) + displacements.unflatten(2, self.out_size)


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if one of them is, else float32: places in half precision would be wrong by a pixel."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _matrix(*entries: Tensor) -> Float[Tensor, "N 2 3"]:
    return torch.stack(entries, 1).unflatten(1, (2, 3))


def _linear(
    matrix: Float[Tensor, "N R 3"], x: Float[Tensor, "M 1 1 W"], y: Float[Tensor, "M 1 H 1"]
) -> Float[Tensor, "N R H W"]:
    """The matrix times (x, y, 1), but by no matrix product, since that may run in less than float32."""
    of_x, of_y, constant = matrix[..., None, None].unbind(2)
    return (of_x * x + constant) + of_y * y


# Constants are made outside inference mode, because training may be what asks for them next.


@lru_cache(maxsize=64)
def _axes(size: tuple[int, int], points: bool, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """x (W) and y (H) of the pixels."""
    with torch.inference_mode(False):
        y, x = (
            torch.linspace(-1, 1, n, dtype=torch.float64, device="cpu")
            if points
            else (2 * torch.arange(n, dtype=torch.float64, device="cpu") + 1) / n - 1
            for n in size
        )
        return x.to(device, dtype), y.to(device, dtype)


@lru_cache(maxsize=64)
def _spline(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "G P"]:
    """`_spline_at` the pixels of a map."""
    with torch.inference_mode(False):
        return _spline_at(_points(size)).to(device, dtype)


def _spline_at(points: Float[Tensor, "P 2"]) -> Float[Tensor, "G P"]:
    """How far each point (y, x) goes for a unit displacement of each of the G control points, in float64.

    With f(u) the kernel at all control points and the affine terms (1, y, x), and S the (symmetric) matrix of the
    system that interpolation solves, a spline of values q is f(u)' S^-1 (q, 0): the first G rows of S^-1 f(u), times q.
    """
    points = points.double()
    controls = _points((CONTROL_POINTS, CONTROL_POINTS)).to(points)
    affine = F.pad(controls, (1, 0), value=1).T
    system = controls.new_zeros(len(controls) + 3, len(controls) + 3)
    system[: len(controls), : len(controls)] = _kernel(controls, controls)
    system[len(controls) :, : len(controls)] = affine
    system[: len(controls), len(controls) :] = affine.T
    terms = torch.cat([_kernel(controls, points), F.pad(points, (1, 0), value=1).T])
    return torch.linalg.solve(system, terms)[: len(controls)]


def _points(size: tuple[int, int]) -> Float[Tensor, "P 2"]:
    """(y, x) of a grid of points, row by row."""
    x, y = _axes(size, True, torch.float64, torch.device("cpu"))
    return torch.cartesian_prod(y, x)


def _kernel(a: Float[Tensor, "A 2"], b: Float[Tensor, "B 2"]) -> Float[Tensor, "A B"]:
    """r^2 ln(r^2), whose scale is nothing to an interpolation."""
    squares = (a[:, None] - b).square().sum(-1)
    return torch.special.xlogy(squares, squares)
