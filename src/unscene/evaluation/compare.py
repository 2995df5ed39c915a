"""What did the prior change? Two trainings that differ in one thing, image by image.

The comparison of Duplicate Latent Representation Suppression (Li et al., BMVC 2021): errors, duplicates, similarity
and inference gap of a model without (0) and with (+) its prior, and how the drop of the gap goes along with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unscene.errors import InputError
from unscene.evaluation.aligned import aligned, number
from unscene.evaluation.result import or_none
from unscene.metrics import percent_of_images

RULES = ("dup_image", "dup_fg_image", "dup_latent", "dup_substituted", "split_image")  # of which percentages are given
WITH_GAP = ("mse_rgb", "miou")  # whose correlation with the gap drop is given


@dataclass(frozen=True)
class Comparison:
    """Two trainings on the same images. Keys of a row: ``without``, ``with``, and ``drop``, the first minus the second.

    ``scores`` {name: row and ``n``}: means over the n images where both are finite. ``percent`` {rule: row}: percent of
    images with duplicates, ``subsets`` {rule: {"without", "with": {"mean", "std"}}} the same of 20 random subsets of
    100 images. ``correlations``: Pearson's, over images, of the gap drop with scores of the second training and, as
    "NAME drop", with their drop.
    """

    scores: dict[str, dict[str, float | int]]
    percent: dict[str, dict[str, float]]
    subsets: dict[str, dict[str, dict[str, float]]]
    correlations: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As nested dicts; what is undefined is None."""
        return _each_leaf(lambda value: or_none(float(value)), asdict(self))

    def table(self) -> str:
        """Aligned text: scores, percentages, correlations."""
        titles = ("without", "with", "drop")
        scores = self.scores | {f"{rule} (% of images)": row for rule, row in self.percent.items()}
        rows = [(name, *(number(row[title]) for title in titles)) for name, row in scores.items()]
        lines = [f"Pearson of gap drop and {name}: {value:.4f}" for name, value in self.correlations.items()]
        return "\n".join([aligned([("", *titles), *rows]), *lines])


def compare(without: Mapping[str, np.ndarray], with_prior: Mapping[str, np.ndarray]) -> Comparison:
    """Compare per-image scores {name: (n,)}, such as ``values`` of evaluations and of `inference_gap`, joined with |.

    Only names that both have are compared. A positive ``drop`` of similarity, duplicates, MSE or gap is what the prior
    is for; mIoU should drop by a negative number. Raises InputError if the numbers of images differ.
    """
    names = [name for name in without if name in with_prior]
    pairs = {name: _paired(name, without[name], with_prior[name]) for name in names}
    percent, subsets = {}, {}
    for rule in (rule for rule in RULES if rule in pairs):
        of_0, of_1 = (percent_of_images(values) for values in pairs[rule])
        percent[rule] = _row(of_0.all, of_1.all)
        subsets[rule] = {
            name: {"mean": of.subset_mean, "std": of.subset_std} for name, of in (("without", of_0), ("with", of_1))
        }
    scores = {name: _row(*_means(*pairs[name])) | {"n": len(pairs[name][0])} for name in names if name not in RULES}
    return Comparison(scores, percent, subsets, _correlations(without, with_prior, names))


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation over the entries where both are finite; NaN for fewer than 2, or if one is constant."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) < 2 or any(np.ptp(values) <= 1e-12 * np.abs(values).max() for values in (x, y)):
        return np.nan
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))


def over_seeds(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """`Comparison.to_json` with every number as ``{"mean", "std"}`` over trainings with different seeds.

    ``std`` is that of a sample (n - 1), None for a single seed; a number that is undefined for any seed is None.
    """
    if not comparisons:
        raise InputError("there is no comparison to average; give at least one")

    def average(*values: float | None) -> dict[str, float | None]:
        if None in values:
            return {"mean": None, "std": None}
        return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}

    return _each_leaf(average, *(comparison.to_json() for comparison in comparisons))


def _paired(name: str, without: np.ndarray, with_prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both scores of the images where both are finite."""
    if len(without) != len(with_prior):
        raise InputError(
            f"{name} has {len(without)} images without the prior and {len(with_prior)} with it; "
            "evaluate both on the same images"
        )
    finite = np.isfinite(without) & np.isfinite(with_prior)
    return without[finite], with_prior[finite]


def _means(*arrays: np.ndarray) -> list[float]:
    return [float(values.mean()) if len(values) else np.nan for values in arrays]


def _row(without: float, with_prior: float) -> dict[str, float]:
    return {"without": without, "with": with_prior, "drop": without - with_prior}


def _correlations(
    without: Mapping[str, np.ndarray], with_prior: Mapping[str, np.ndarray], names: Sequence[str]
) -> dict[str, float]:
    if "gap" not in names:
        return {}
    measured = [name for name in WITH_GAP if name in names]
    with np.errstate(invalid="ignore"):  # what is not finite is left out
        drops = {name: without[name] - with_prior[name] for name in (*measured, "gap")}
    after = {name: pearson(with_prior[name], drops["gap"]) for name in measured}
    return after | {f"{name} drop": pearson(drops[name], drops["gap"]) for name in measured}


def _each_leaf(function, *trees):
    """``function`` of the leaves that stand in the same place in nested dicts."""
    if not isinstance(trees[0], dict):
        return function(*trees)
    return {key: _each_leaf(function, *(tree[key] for tree in trees)) for key in trees[0]}
