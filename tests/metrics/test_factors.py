"""Linear read-out of factors: synthetic latents with a known answer, scikit-learn as oracle."""

import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score

from unscene.errors import InputError
from unscene.metrics import pair_with_objects, predict_factors


@pytest.fixture
def slots():
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_linear_factors_are_read_out_exactly(slots):
    orthogonal, _ = torch.linalg.qr(noise(6, 6))
    angle = torch.linspace(-3, 3, 200)
    latent = torch.cat([slots[:, :4], angle.cos()[:, None], angle.sin()[:, None]], dim=1) @ orthogonal
    factors = {"x": slots[:, 0] * 3 + 7, "position": slots[:, 1:4], "angle": angle}
    scores = predict_factors(latent, factors, {"x": "scalar", "position": "scalar", "angle": "angle"})
    assert scores["x"] == pytest.approx(1, abs=1e-9)
    assert scores["position"] == pytest.approx(1, abs=1e-9)
    assert scores["angle"] == pytest.approx(1, abs=1e-9)


def test_separate_clusters_are_told_apart(slots):
    shape = torch.arange(200) % 6
    latents = 0.1 * slots + torch.eye(6)[shape]
    assert predict_factors(latents, {"shape": shape}, {"shape": "categorical"})["shape"] == 1


def test_scalars_equal_scikit_learn(slots):
    target = slots[:, :2] + noise(200, 2)
    expected = LinearRegression().fit(slots[:120].double(), target[:120].double()).predict(slots[120:].double())
    score = predict_factors(slots, {"f": target}, {"f": "scalar"}, train_fraction=0.6)["f"]
    assert 0 < score < 1
    assert score == pytest.approx(r2_score(target[120:], expected), abs=1e-6)


def test_categories_equal_scikit_learn(slots):
    target = (slots[:, :4] + noise(200, 4)).argmax(1) * 5 + 1
    scaled = ((slots - slots[:120].mean(0)) / slots[:120].std(0, correction=0)).double().numpy()
    oracle = LogisticRegression(tol=1e-8, max_iter=1000).fit(scaled[:120], target[:120])
    score = predict_factors(slots, {"shape": target}, {"shape": "categorical"}, train_fraction=0.6)["shape"]
    assert 0.4 < score < 1
    assert score == oracle.score(scaled[120:], target[120:])


def test_unrelated_factors_are_not_read_out(slots):
    target = noise(200)
    scores = predict_factors(slots, {"f": target, "c": (target > 0).long()}, {"f": "scalar", "c": "categorical"})
    assert scores["f"] < 0.2
    assert scores["c"] < 0.75


def test_dead_and_duplicate_latents_do_no_harm(slots):
    wide = torch.cat([slots, slots, torch.zeros(200, 3)], dim=1)
    assert predict_factors(wide, {"f": slots[:, 0]}, {"f": "scalar"})["f"] == pytest.approx(1, abs=1e-9)


def test_constant_factor_and_unseen_category(slots):
    unseen = torch.cat([torch.zeros(160), torch.ones(40)]).long()
    scores = predict_factors(slots, {"f": torch.ones(200), "c": unseen}, {"f": "scalar", "c": "categorical"})
    assert torch.tensor(scores["f"]).isnan()
    assert scores["c"] == 0


def test_pairs_are_those_of_largest_overlap():
    mask = torch.tensor([[[0, 1, 1], [0, 1, 3]], [[0, 2, 2], [0, 2, 2]]])
    segmentation = torch.tensor([[[0, 2, 2], [0, 1, 1]], [[2, 0, 0], [2, 0, 1]]])
    slots = torch.arange(6.0).view(2, 3, 1)
    factors = {"id": torch.tensor([[0, 1, 2, 3], [0, 11, 12, 13]]), "xy": torch.rand(2, 4, 2)}
    latents, paired = pair_with_objects(slots, segmentation, mask, factors)
    assert latents.flatten().tolist() == [2, 1, 3]
    assert paired["id"].tolist() == [1, 3, 12]
    assert torch.equal(paired["xy"], factors["xy"][[0, 0, 1], [1, 3, 2]])


def test_data_without_factors():
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    with pytest.raises(InputError, match="the data has no factors"):
        pair_with_objects(torch.zeros(1, 3, 4), labels, labels, {})


@pytest.mark.parametrize(
    ("kinds", "fraction", "message"),
    [
        ({"size": "scalar"}, 0.8, "there is no factor 'size'; the data has color, x"),
        ({"x": "ordinal"}, 0.8, "'x' has the unknown kind 'ordinal'; choose from scalar, angle, categorical"),
        ({"color": "categorical"}, 0.8, "'color' has 3 numbers per object, a factor of kind categorical has one"),
        ({"x": "scalar"}, 1.0, "cannot split 200 objects with train_fraction 1.0"),
    ],
)
def test_bad_input(slots, kinds, fraction, message):
    with pytest.raises(InputError, match=message):
        predict_factors(slots, {"x": slots[:, 0], "color": slots[:, :3]}, kinds, fraction)
