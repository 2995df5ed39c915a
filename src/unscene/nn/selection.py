"""Which sprite each layer shows: the candidates that together make the image best (DTI-Sprites, ICCV 2021, Eq. 4-5).

Composites are affine in one layer. With the others fixed, v_i what layer i (or the background) shows of itself where
layer l is absent, and d the occlusion matrix,

    R = sum_i v_i,   S = sum_i d[l, i] v_i,   V = prod_j (1 - d[j, l] a_j),
    composite with mask a and colours c in layer l = R + a (V c - S),

so R, S and V serve all candidates of a layer, and none is composited. The objective is the mean, not the sum, of the
squared errors (the paper prints a norm, its code takes the mean), plus a penalty per layer that is not empty.

Products and sums over pixels, no matrix products: autocast and TF32 leave them in float32. Selections are made for a
few images at a time, so that the candidates of a layer stay in the processor's cache. Expanding the square into one
matrix-vector product with nine features per pixel of a candidate took about six times as long on one CPU core, for 3
to 40 candidates and images of 35 to 128 pixels; on a GPU neither was measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unscene.errors import InputError

# Numbers in one layer's candidates of so many images as are taken at a time, by device.
CHUNK = {"cpu": 2**19}  # 2 MiB, about what a core caches
CHUNK_ELSEWHERE = 2**26


@torch.no_grad()
def greedy(
    image: Float[Tensor, "B C H W"],
    masks: Float[Tensor, "B L K H W"],
    colours: Float[Tensor, "B L K C H W"],
    occlusion: Float[Tensor, "B L L"],
    background: Float[Tensor, "B C H W"] | None = None,
    *,
    empty: bool,
    penalty: float,
    sweeps: int,
) -> tuple[Int[Tensor, "B L"], Float[Tensor, " B"]]:
    """One layer at a time, first to last, takes the candidate that is best given the others; all begin empty.

    Repeated ``sweeps`` times. A layer is left out while no other has changed since it last chose, which alters
    nothing. Float32 at least, whatever the inputs are.

    Args:
        image: to be explained.
        masks: of the K candidates of each layer; a candidate and its expansions may share memory.
        colours: of the same, not multiplied by the masks.
        occlusion: [b, j, l], how much layer j hides layer l.
        background: black if None.
        empty: whether a layer may also stay empty, candidate K; it is not stored.
        penalty: added for each layer that is not empty; without the empty candidate nothing is.
        sweeps: at most so many.

    Returns:
        The candidate of each layer, the first of equally good ones, and the objective.

    Raises:
        InputError: there is no sweep.
    """
    if sweeps < 1:
        raise InputError(f"sweeps is {sweeps}; the greedy selection needs at least 1")
    chunks = _chunks(image, masks, colours, occlusion, background, empty, penalty)
    return _joined([_greedy(layers, sweeps) for layers in chunks])


@torch.no_grad()
def exhaustive(
    image: Float[Tensor, "B C H W"],
    masks: Float[Tensor, "B L K H W"],
    colours: Float[Tensor, "B L K C H W"],
    occlusion: Float[Tensor, "B L L"],
    background: Float[Tensor, "B C H W"] | None = None,
    *,
    empty: bool,
    penalty: float,
) -> tuple[Int[Tensor, "B L"], Float[Tensor, " B"]]:
    """The best of all choices, (K or K + 1)^L of them, as `greedy` takes and returns them.

    Not faithful: the authors' code leaves the penalty out here.
    """
    chunks = _chunks(image, masks, colours, occlusion, background, empty, penalty)
    return _joined([_exhaustive(layers) for layers in chunks])


def _greedy(layers: _Layers, sweeps: int) -> tuple[Tensor, Tensor]:
    choice = layers.price.new_full((len(layers.image), layers.count), -1, dtype=torch.int64)
    stale = set(range(layers.count))  # layers that have not chosen since another one changed
    for sweep in range(sweeps):
        if not stale:
            break
        before, after = layers.unhidden, layers.products_of_later() if sweep else [1] * layers.count
        for layer in range(layers.count):
            if layer in stale:
                errors = layers.errors(layer, before * after[layer])
                best = (errors + layers.price).argmin(1)
                stale.discard(layer)
                if sweep == 0 or not torch.equal(best, choice[:, layer]):
                    stale = set(range(layers.count)) - {layer}
                choice[:, layer] = best
                layers.put(layer, best)
            before = before * layers.passed(layer)
    fit = errors.gather(1, best.unsqueeze(1)).squeeze(1)
    return choice, fit + layers.price[choice].sum(1)


def _exhaustive(layers: _Layers) -> tuple[Tensor, Tensor]:
    lowest = layers.price.new_full((len(layers.image),), torch.inf)
    choice = layers.price.new_zeros((len(layers.image), layers.count), dtype=torch.int64)
    for chosen, visible in layers.choices(layers.unhidden):
        earlier = choice.new_tensor(chosen)
        errors = layers.errors(layers.count - 1, visible)
        cost, best = (errors + layers.price + layers.price[earlier].sum()).min(1)
        found = torch.cat([earlier.expand(len(best), -1), best.unsqueeze(1)], 1)
        choice = torch.where((cost < lowest).unsqueeze(1), found, choice)
        lowest = torch.minimum(cost, lowest)
    return choice, lowest


class _Layers:
    """What the layers of a few images show so far, at first nothing, before a background that every layer hides."""

    def __init__(
        self,
        image: Tensor,
        masks: Tensor,
        colours: Tensor,
        occlusion: Tensor,
        background: Tensor | None,
        empty: bool,
        penalty: float,
    ) -> None:
        dtype = torch.promote_types(image.dtype, torch.float32)
        self.image, self.masks, self.colours = image, masks, colours
        self.count, self.candidates = masks.shape[1:3]
        self.occlusion = occlusion.to(dtype)
        self.mask = masks.new_zeros(masks[:, :, 0].shape, dtype=dtype)  # (B, L, H, W)
        self.shown = masks.new_zeros(colours[:, :, 0].shape, dtype=dtype)  # masked colours, (B, L or L + 1, C, H, W)
        if background is not None:
            self.occlusion = F.pad(self.occlusion, (0, 1), value=1.0)
            self.shown = torch.cat([self.shown, background.to(dtype).unsqueeze(1)], 1)
        self.unhidden = torch.ones_like(self.shown[:, :, 0])
        self.price = self.unhidden.new_tensor([penalty] * self.candidates + [0.0] if empty else [0.0] * self.candidates)

    def put(self, layer: int, choice: Tensor) -> None:
        """``layer`` shows candidate ``choice`` (B,) from now on."""
        rows, stored = torch.arange(len(choice), device=choice.device), choice.clamp(max=self.candidates - 1)
        mask = self.masks[rows, layer, stored].to(self.mask.dtype) * (choice < self.candidates)[:, None, None]
        self.mask[:, layer] = mask
        self.shown[:, layer] = mask.unsqueeze(1) * self.colours[rows, layer, stored]

    def passed(self, layer: int) -> Tensor:
        """How much of each layer and of the background ``layer`` lets through, (B, L or L + 1, H, W)."""
        return 1 - self.occlusion[:, layer, :, None, None] * self.mask[:, layer : layer + 1]

    def products_of_later(self) -> list[Tensor]:
        """For each layer, what those after it let through together."""
        products = [self.unhidden]
        for layer in range(self.count - 1, 0, -1):
            products.append(products[-1] * self.passed(layer))
        return products[::-1]

    def choices(self, visible: Tensor, chosen: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """All candidates of all layers but the last in turn: (their indices, what they let through together)."""
        layer = len(chosen)
        if layer == self.count - 1:
            yield chosen, visible
            return
        for k in range(len(self.price)):
            self.put(layer, torch.full((len(visible),), k, device=visible.device))
            yield from self.choices(visible * self.passed(layer), (*chosen, k))

    def errors(self, layer: int, visible: Tensor) -> Tensor:
        """Mean squared error with each candidate in ``layer`` (B, K) and, if allowed, with none (B, K + 1).

        ``visible`` is what the other layers let through together of each layer and of the background. Takes the
        layer out.
        """
        self.shown[:, layer] = 0
        others = visible.unsqueeze(2) * self.shown
        left = self.image - others.sum(1)  # x - R
        hidden = others.mul_(self.occlusion[:, layer, :, None, None, None]).sum(1)  # S
        remainder = self.colours[:, layer] * visible[:, layer, None, None]
        remainder.sub_(hidden.unsqueeze(1)).mul_(self.masks[:, layer].unsqueeze(2)).sub_(left.unsqueeze(1))
        errors = remainder.square_().flatten(2).mean(2)
        if len(self.price) == self.candidates:
            return errors
        return torch.cat([errors, left.square().flatten(1).mean(1, keepdim=True)], 1)


def _chunks(
    image: Tensor, masks: Tensor, colours: Tensor, occlusion: Tensor, background: Tensor | None, *options
) -> Iterator[_Layers]:
    limit = CHUNK.get(image.device.type, CHUNK_ELSEWHERE)
    size = max(1, limit // colours[0, 0].numel())
    for start in range(0, len(image), size):
        rows = slice(start, start + size)
        behind = None if background is None else background[rows]
        yield _Layers(image[rows], masks[rows], colours[rows], occlusion[rows], behind, *options)


def _joined(results: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    choices, costs = zip(*results, strict=True)
    return torch.cat(choices), torch.cat(costs)
