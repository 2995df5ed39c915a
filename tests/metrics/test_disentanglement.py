"""DCI on codes whose disentanglement is known, and its two entropies against scipy."""

import sys

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from unscene.errors import InputError
from unscene.metrics import dci
from unscene.metrics.disentanglement import completeness, disentanglement

KINDS = {"x": "scalar", "shape": "categorical"}
FEW = {"num_trees": 10}


@pytest.fixture
def factors():
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.rand(400, generator=generator), "shape": torch.randint(0, 4, (400,), generator=generator)}


def test_one_dimension_per_factor(factors):
    slots = torch.stack([3 * factors["shape"] - 1, torch.zeros(400), factors["x"] ** 3], 1)
    found = dci(slots, factors, KINDS, **FEW)
    assert found.disentanglement > 0.98 and found.completeness > 0.98 and found.informativeness > 0.99
    assert found.names == ["x", "shape"]
    np.testing.assert_allclose(found.importance, [[0, 1], [0, 0], [1, 0]], atol=0.01)


def test_factors_that_share_a_dimension_are_not_disentangled_but_complete(factors):
    slots = torch.stack([factors["shape"] + factors["x"], 0 * factors["x"]], 1)
    found = dci(slots, factors, KINDS, **FEW)
    assert found.disentanglement < 0.05 and found.completeness > 0.98
    assert found.scores[1] > 0.95


def test_a_factor_spread_over_dimensions_is_not_complete_but_disentangled(factors):
    angle = 2 * np.pi * factors["x"]
    slots = torch.stack([angle.cos() + angle.sin(), angle.cos() - angle.sin()], 1)
    found = dci(slots, {"angle": angle}, {"angle": "angle"}, **FEW)
    assert found.names == ["angle.0", "angle.1"]
    assert found.completeness < 0.2 and found.informativeness > 0.9
    assert dci(slots, {"x": factors["x"]}, {"x": "scalar"}, **FEW).disentanglement == 1  # one factor only


def test_noise_tells_nothing(factors):
    noise = torch.randn(400, 5, generator=torch.Generator().manual_seed(1))
    found = dci(noise, factors, KINDS, **FEW)
    assert found.disentanglement < 0.2 and found.completeness < 0.2 and found.scores[0] < 0.1
    assert found.scores == dci(noise, factors, KINDS, **FEW).scores


def test_entropies_of_random_importances():
    importance = np.random.default_rng(0).random((5, 3)) ** 4
    importance[2] = 0  # a dead dimension has no weight
    alive = importance[[0, 1, 3, 4]]
    purity = [1 - entropy(row, base=3) for row in alive]
    assert disentanglement(importance) == pytest.approx(np.average(purity, weights=alive.sum(1)))
    assert completeness(importance) == pytest.approx(np.mean([1 - entropy(column, base=5) for column in importance.T]))
    importance[:, 1] = 0  # a factor that nothing tells about
    assert completeness(importance) == pytest.approx(
        sum(1 - entropy(importance[:, j], base=5) for j in (0, 2)) / 3, abs=1e-12
    )
    assert np.isnan(disentanglement(0 * importance))
    assert completeness(np.ones((1, 4))) == 1


def test_without_scikit_learn(factors, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(InputError, match=r'DCI needs scikit-learn; pip install "unscene\[analysis\]"'):
        dci(torch.zeros(400, 2), factors, KINDS)


@pytest.mark.parametrize(
    ("kinds", "options", "message"),
    [
        ({"size": "scalar"}, {}, "there is no factor 'size'; the data has shape, x"),
        ({}, {}, "kinds is empty; name at least one factor to predict"),
        ({"x": "scalar"}, {"train_fraction": 1.0}, "cannot split 400 objects with train_fraction 1.0"),
    ],
)
def test_bad_input(factors, kinds, options, message):
    with pytest.raises(InputError, match=message):
        dci(torch.zeros(400, 2), factors, kinds, **options)
