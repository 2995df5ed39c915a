"""DCI, also called QEDR: does each latent dimension know of one factor, and each factor live in one dimension?

Eastwood and Williams, "A framework for the quantitative evaluation of disentangled representations" (ICLR 2018), with
random forests. MulMON and EfficientMORL report it of slots that are matched with objects, without the background:
`unscene.metrics.pair_with_objects` makes such pairs. Needs scikit-learn (the extra ``analysis``).
Shapes: M objects of many images, D latent dimensions, J numbers and categories to predict.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor

from unscene.errors import InputError
from unscene.metrics.factors import factor_target


class DCI(NamedTuple):
    """Each in [0, 1] but for ``informativeness``, which is R^2 or accuracy on held-out objects, mean over J."""

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray  # (D, J): columns sum to 1, or are 0 if nothing could be learnt
    names: list[str]  # of the J columns
    scores: list[float]  # of the J columns: R^2, or accuracy


def dci(
    slots: Float[Tensor, "M D"],
    factors: Mapping[str, Shaped[Tensor, "M ..."]],
    kinds: Mapping[str, str],
    train_fraction: float = 0.8,
    num_trees: int = 100,
    seed: int = 0,
) -> DCI:
    """Disentanglement, completeness and informativeness of latents about the factors named in ``kinds``.

    ``kinds`` are those of `unscene.metrics.predict_factors`: a ``scalar`` factor counts once per number, an ``angle``
    as its cosine and sine, a ``categorical`` one once. A random forest per column is fitted to the first objects and
    scored on the rest. Raises InputError without scikit-learn, and for factors that do not fit.
    """
    regressor, classifier = _forests()
    train = int(len(slots) * train_fraction)
    if not 0 < train < len(slots) - 1:
        raise InputError(f"cannot split {len(slots)} objects with train_fraction {train_fraction} to fit and score")
    inputs = slots.detach().double().cpu().numpy()
    # all dimensions at every split: among a random few, ones that know nothing would get importance too
    options = {"n_estimators": num_trees, "random_state": seed, "max_features": 1.0}
    names, importances, scores = [], [], []
    for name, target, categorical in _columns(factors, kinds):
        forest = (classifier if categorical else regressor)(**options).fit(inputs[:train], target[:train])
        names.append(name)
        importances.append(forest.feature_importances_)
        scores.append(float(forest.score(inputs[train:], target[train:])))
    importance = np.stack(importances, 1)
    return DCI(disentanglement(importance), completeness(importance), float(np.mean(scores)), importance, names, scores)


def disentanglement(importance: np.ndarray) -> float:
    """1 minus the entropy, in base J, of each dimension's importances (D, J); mean weighted by the dimension's sum."""
    weight = importance.sum(1)
    return float((weight * _purity(importance)).sum() / weight.sum()) if weight.sum() > 0 else np.nan


def completeness(importance: np.ndarray) -> float:
    """1 minus the entropy, in base D, of each column's importances (D, J); mean over the columns."""
    return float(_purity(importance.T).mean())


def _purity(importance: np.ndarray) -> np.ndarray:
    """1 - entropy of each row, normalised to sum 1, in base of its length; 0 for a row without importance."""
    if importance.shape[1] == 1:
        return np.ones(len(importance))
    total = importance.sum(1, keepdims=True)
    share = np.divide(importance, total, out=np.full_like(importance, 1 / importance.shape[1]), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return 1 + (share * logs).sum(1) / np.log(importance.shape[1])


def _columns(factors: Mapping[str, Tensor], kinds: Mapping[str, str]) -> list[tuple[str, np.ndarray, bool]]:
    """(Name, values (M,), categorical?) of everything to predict."""
    columns = []
    for name, kind in kinds.items():
        target = factor_target(name, kind, factors).numpy()
        if target.ndim == 1:
            columns.append((name, target, True))
        elif target.shape[1] == 1:
            columns.append((name, target[:, 0], False))
        else:
            columns.extend((f"{name}.{i}", column, False) for i, column in enumerate(target.T))
    if not columns:
        raise InputError("kinds is empty; name at least one factor to predict")
    return columns


def _forests():
    """scikit-learn's regressor and classifier."""
    try:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    except ImportError as error:
        raise InputError('DCI needs scikit-learn; pip install "unscene[analysis]"') from error
    return RandomForestRegressor, RandomForestClassifier
