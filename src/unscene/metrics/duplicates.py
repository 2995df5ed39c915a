"""Which slots of an image show the same thing twice? An automatic rule in place of the eye.

Duplicate Latent Representation Suppression (Li et al., BMVC 2021) looks at slots drawn one by one, sigmoid(logit)
times colour, and counts the images with a component drawn twice. Here two slots are duplicates if their silhouettes
overlap and their colours agree there. Two rules beside it: one by the latents, one by the true masks.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor

from unscene.errors import InputError
from unscene.metrics.contingency import Table, per_image
from unscene.metrics.slots import cosine_similarities

LARGE = 0.5  # of the image: silhouettes above this count as background
PAIRS_AT_ONCE = 32  # whose colours are compared in one go


class Silhouettes(NamedTuple):
    """What each slot covers if it is drawn alone, and in which images the sigmoid could not tell."""

    cover: Bool[Tensor, "B K H W"]
    substituted: Bool[Tensor, " B"]

    @property
    def area(self) -> Float64[Tensor, "B K"]:
        """Share of the image."""
        return self.cover.flatten(2).double().mean(2)


class Duplicates(NamedTuple):
    """Duplicate pairs of slots, both (h, j) and (j, h), and what they were found by."""

    pairs: Bool[Tensor, "B K K"]
    area: Float64[Tensor, "B K"]  # of the silhouettes, as a share of the image
    filled: Bool[Tensor, "B K"]  # slots that are not empty
    substituted: Bool[Tensor, " B"]  # images in which the sigmoid could not tell silhouettes

    @property
    def image(self) -> Float64[Tensor, " B"]:
        """1 for images with a duplicate, else 0."""
        return self.pairs.flatten(1).any(1).double()

    @property
    def foreground(self) -> Float64[Tensor, " B"]:
        """1 for images with a duplicate of which neither silhouette is larger than half of the image, else 0."""
        small = self.area <= LARGE
        return (self.pairs & small.unsqueeze(1) & small.unsqueeze(2)).flatten(1).any(1).double()


def silhouettes(mask_logits: Float[Tensor, "B K H W"], min_area: float = 0.005) -> Silhouettes:
    """sigmoid(logit) > 0.5 of each slot.

    A softmax over slots does not care for a number that is added to all logits of a pixel, so that nothing in training
    fixes where the sigmoid is 0.5. Where the median slot covers more than half of the image, or none covers
    ``min_area`` of it, a slot covers the pixels where its mask is more than half of the largest one instead. Log masks
    may stand for logits; they always end there.
    """
    cover = mask_logits > 0
    area = cover.flatten(2).double().mean(2)
    substituted = (area.quantile(0.5, dim=1) > LARGE) | (area < min_area).all(1)
    near_largest = mask_logits > mask_logits.amax(1, keepdim=True) - np.log(2)
    return Silhouettes(torch.where(substituted[:, None, None, None], near_largest, cover), substituted)


def find_duplicates(
    components: Float[Tensor, "B K C H W"],
    mask_logits: Float[Tensor, "B K ..."],
    *,
    min_area: float = 0.005,
    min_iou: float = 0.4,
    max_distance: float = 0.25,
) -> Duplicates:
    """Find slots that show the same thing, in what a model decodes from its posterior means.

    Two slots that cover at least ``min_area`` of the image are duplicates if the IoU of their `silhouettes` is at least
    ``min_iou`` and the distance of their colours, mean over the pixels that both cover, at most ``max_distance``:
    the length of the difference of two vectors in [0, 1]^C, to which colours are clipped. The defaults are those that
    agree best with the eye on 100 images, see docs/metrics.md.
    """
    if components.ndim != 5 or components.shape[:2] + components.shape[3:] != mask_logits.shape:
        raise InputError(
            f"components {tuple(components.shape)} and mask_logits {tuple(mask_logits.shape)} do not fit; "
            "they must be (B, K, C, H, W) and (B, K, H, W)"
        )
    found = silhouettes(mask_logits, min_area)
    filled = found.area >= min_area
    flat = found.cover.flatten(2).double()
    both = flat @ flat.mT
    size = flat.sum(2)
    union = size.unsqueeze(1) + size.unsqueeze(2) - both
    overlap = (both >= min_iou * union) & filled.unsqueeze(1) & filled.unsqueeze(2)
    pairs, colours = torch.zeros_like(overlap), components.clamp(0, 1)
    candidates = overlap.triu(1).nonzero()
    for image, h, j in (part.unbind(1) for part in candidates.split(PAIRS_AT_ONCE)):
        shared = found.cover[image, h] & found.cover[image, j]
        distance = (colours[image, h] - colours[image, j]).square().sum(1).sqrt()
        mean = (distance * shared).double().sum((1, 2)) / shared.sum((1, 2))
        pairs[image, h, j] = mean <= max_distance
    return Duplicates(pairs | pairs.mT, found.area, filled, found.substituted)


def latent_duplicates(
    slots: Float[Tensor, "B K D"], filled: Bool[Tensor, "B K"], threshold: float = 0.9
) -> Float64[Tensor, " B"]:
    """1 for images in which the cosine similarity of two ``filled`` slots is above ``threshold``, else 0."""
    alike = (cosine_similarities(slots) > threshold) & filled.unsqueeze(1) & filled.unsqueeze(2)
    return alike.triu(1).flatten(1).any(1).double()


def split_image(
    true: Shaped[Tensor, "B ..."], pred: Shaped[Tensor, "..."], recall: float = 0.25, precision: float = 0.5
) -> Float64[Tensor, " B"]:
    """1 for images in which two slots share a true object or the background, else 0.

    Each of the two has at least ``recall`` of its pixels, and at least ``precision`` of their own pixels lie in it.
    Takes integer label maps (B, H, W) or (B, T, H, W). Slots that repeat what another one owns are not seen.
    """

    def score(table: Table) -> Tensor:
        counts = table.counts.double()
        in_object, in_slot = counts.sum(2, keepdim=True), counts.sum(1, keepdim=True)
        sharers = (counts > 0) & (counts >= recall * in_object) & (counts >= precision * in_slot)
        return (sharers.sum(2) > 1).any(1).double()

    return per_image(score, true, pred)


class Percent(NamedTuple):
    """Percent of images: of all, and mean and standard deviation of many small subsets (NaN if there are too few)."""

    all: float
    subset_mean: float
    subset_std: float


def percent_of_images(flags: np.ndarray, num_subsets: int = 20, size: int = 100, seed: int = 0) -> Percent:
    """Percent of images with flag 1, of all and of ``num_subsets`` random subsets of ``size``; NaN is left out.

    The paper looks at 100 random images: the spread of the subsets says what that leaves to chance.
    """
    flags = np.asarray(flags, dtype=np.float64)
    flags = 100 * flags[np.isfinite(flags)]
    if len(flags) < size:
        return Percent(flags.mean().item() if len(flags) else np.nan, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    means = [flags[generator.permutation(len(flags))[:size]].mean() for _ in range(num_subsets)]
    return Percent(flags.mean().item(), np.mean(means).item(), np.std(means).item())
