"""Factor prediction: how much does a single linear layer read out of a slot about its object?

Greff et al. (2019), section 4: each object's slot, matched by mask overlap, predicts the object's true
factors. Not faithful: the layer is fitted to the optimum (closed form or L-BFGS) instead of by
steps of SGD, so that the score has no training schedule.
Shapes: M objects of many images, P numbers per factor.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor
from torch.nn.functional import cross_entropy

from unscene.errors import InputError
from unscene.metrics.iou import match_slots

KINDS = ("scalar", "angle", "categorical")


def pair_with_objects(
    slots: Float[Tensor, "B K D"],
    segmentation: Shaped[Tensor, "B ..."],
    mask: Shaped[Tensor, "B ..."],
    factors: Mapping[str, Shaped[Tensor, "B N ..."]],
) -> tuple[Float[Tensor, "M D"], dict[str, Shaped[Tensor, "M ..."]]]:
    """The slot of every visible object, and that object's factors, in the order of the images.

    ``segmentation`` holds slot indices, ``mask`` true ids; the background and objects without a
    visible pixel are left out. ``factors`` are those of Scenes: entry i describes id i. All on one
    device; fold the frames of a video into B.
    """
    if not factors:
        raise InputError("the data has no factors to pair slots with; choose a dataset that lists them")
    num_objects = next(iter(factors.values())).shape[1]
    slot_of = match_slots(mask, segmentation, num_objects)
    slot_of[:, 0] = -1
    image, entity = torch.nonzero(slot_of >= 0, as_tuple=True)
    return slots[image, slot_of[image, entity]], {name: factor[image, entity] for name, factor in factors.items()}


def predict_factors(
    slots: Float[Tensor, "M D"],
    factors: Mapping[str, Shaped[Tensor, "M ..."]],
    kinds: Mapping[str, str],
    train_fraction: float = 0.8,
) -> dict[str, float]:
    """Fit one linear layer per factor on the first objects, score it on the rest.

    ``kinds`` names the factors to predict, each ``scalar`` (R^2, mean over its P numbers), ``angle``
    (radians; R^2 of cosine and sine, mean) or ``categorical`` (ids; accuracy). The split keeps the order,
    so that the objects of an image (almost) never fall on both sides.
    R^2 is NaN if the factor is constant among the scored objects.
    """
    train = int(len(slots) * train_fraction)
    if not 0 < train < len(slots):
        raise InputError(
            f"cannot split {len(slots)} objects with train_fraction {train_fraction}; "
            "both parts need at least one object"
        )
    inputs = _standardised(slots.detach().double().cpu(), train)
    scores = {}
    for name, kind in kinds.items():
        target = factor_target(name, kind, factors)
        score = _accuracy if kind == "categorical" else _r_squared
        scores[name] = score(inputs, target, train)
    return scores


def factor_target(name: str, kind: str, factors: Mapping[str, Tensor]) -> Tensor:
    """What is to be predicted of a factor of this kind: (M, P) numbers, or (M,) ids."""
    if name not in factors:
        raise InputError(f"there is no factor {name!r}; the data has {', '.join(sorted(factors))}")
    if kind not in KINDS:
        raise InputError(f"factor {name!r} has the unknown kind {kind!r}; choose from {', '.join(KINDS)}")
    values = factors[name].detach().cpu().flatten(1) if factors[name].ndim > 1 else factors[name].cpu()[:, None]
    if kind == "scalar":
        return values.double()
    if values.shape[1] != 1:
        raise InputError(f"factor {name!r} has {values.shape[1]} numbers per object, a factor of kind {kind} has one")
    if kind == "angle":
        return torch.cat([values.double().cos(), values.double().sin()], dim=1)
    return values[:, 0]


def _standardised(slots: Float64[Tensor, "M D"], train: int) -> Float64[Tensor, "M D+1"]:
    """Latents with mean 0 and deviation 1 in the training part, and a column of ones for the bias."""
    deviation = slots[:train].std(0, correction=0)
    scaled = (slots - slots[:train].mean(0)) / torch.where(deviation > 0, deviation, 1.0)
    return torch.cat([scaled, torch.ones_like(scaled[:, :1])], dim=1)


def _r_squared(inputs: Tensor, target: Float64[Tensor, "M P"], train: int) -> float:
    # gelsd: dead latents make the columns dependent, and then the smallest solution is the one wanted
    weight = torch.linalg.lstsq(inputs[:train], target[:train], driver="gelsd").solution
    scored = target[train:]
    residual = (scored - inputs[train:] @ weight).square().sum(0)
    total = (scored - scored.mean(0)).square().sum(0)
    return (1 - residual / total.where(total > 0, torch.nan)).mean().item()


def _accuracy(inputs: Tensor, target: Shaped[Tensor, "M"], train: int) -> float:
    """Multinomial logistic regression; an id that the training part lacks can only be predicted wrongly."""
    ids, classes = torch.unique(target[:train], return_inverse=True)
    weight = torch.zeros(inputs.shape[1], len(ids), dtype=inputs.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        # a unit Gaussian prior on all but the bias: without it separable classes have no optimum
        penalty = 0.5 * weight[:-1].square().sum() / train
        loss = cross_entropy(inputs[:train] @ weight, classes) + penalty
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(objective)
    predicted = ids[(inputs[train:] @ weight.detach()).argmax(1)]
    return (predicted == target[train:]).double().mean().item()
