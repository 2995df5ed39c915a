"""The comparison of two trainings against numbers worked out by hand, and its correlations against scipy."""

import json
import math

import numpy as np
import pytest
from scipy.stats import pearsonr

from unscene.errors import InputError
from unscene.evaluation.compare import compare, over_seeds, pearson

NAN = np.nan


@pytest.fixture
def scores():
    """Of four images; one has no mIoU without the prior, one no finite gap with it."""
    without = {
        "mse_rgb": np.array([0.4, 0.2, 0.2, 0.4]),
        "miou": np.array([0.2, NAN, 0.4, 0.6]),
        "similarity": np.array([0.5, 0.7, 0.6, 0.6]),
        "dup_image": np.array([1.0, 1.0, 0.0, 1.0]),
        "gap": np.array([30.0, 20.0, 25.0, 40.0]),
        "kl": np.array([1.0, 1.0, 1.0, 1.0]),
    }
    with_prior = {
        "mse_rgb": np.array([0.1, 0.1, 0.2, 0.2]),
        "miou": np.array([0.6, 0.5, 0.8, 0.8]),
        "similarity": np.array([0.1, 0.1, 0.0, 0.2]),
        "dup_image": np.array([0.0, 1.0, 0.0, 0.0]),
        "gap": np.array([10.0, 15.0, 27.0, np.inf]),
    }
    return without, with_prior


def test_means_and_drops(scores):
    found = compare(*scores)
    assert found.scores["mse_rgb"] == pytest.approx({"without": 0.3, "with": 0.15, "drop": 0.15, "n": 4})
    assert found.scores["similarity"] == pytest.approx({"without": 0.6, "with": 0.1, "drop": 0.5, "n": 4})
    assert found.scores["miou"] == pytest.approx({"without": 0.4, "with": 2.2 / 3, "drop": 0.4 - 2.2 / 3, "n": 3})
    assert found.scores["gap"] == pytest.approx({"without": 25, "with": 52 / 3, "drop": 23 / 3, "n": 3})
    assert found.percent == {"dup_image": {"without": 75, "with": 25, "drop": 50}}
    assert "kl" not in found.scores and "dup_image" not in found.scores


def test_correlations_with_the_gap_drop(scores):
    found = compare(*scores).correlations
    assert list(found) == ["mse_rgb", "miou", "mse_rgb drop", "miou drop"]
    drop = [20, 5, -2]
    assert found["mse_rgb"] == pytest.approx(pearsonr([0.1, 0.1, 0.2], drop).statistic)
    assert found["miou"] == pytest.approx(pearsonr([0.6, 0.5, 0.8], drop).statistic)
    assert found["mse_rgb drop"] == pytest.approx(pearsonr([0.3, 0.1, 0.0], drop).statistic)
    assert math.isnan(found["miou drop"])  # the two images that have it improve alike
    assert compare({"mse_rgb": np.ones(3)}, {"mse_rgb": np.ones(3)}).correlations == {}


def test_subsets_of_a_hundred_images_are_the_same_for_both():
    flags = (np.random.default_rng(0).random(300) < 0.4).astype(float)
    found = compare({"dup_image": flags}, {"dup_image": flags}).subsets["dup_image"]
    assert found["without"] == found["with"]
    assert found["with"]["mean"] == pytest.approx(100 * flags.mean(), abs=5) and 1 < found["with"]["std"] < 10


def test_pearson():
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    y += 0.5 * x
    assert pearson(x, y) == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
    assert pearson(np.append(x, NAN), np.append(y, 7.0)) == pytest.approx(pearson(x, y))
    assert math.isnan(pearson(x, np.ones(50))) and math.isnan(pearson(x[:1], y[:1]))


def test_json_and_table(scores):
    found = compare(*scores)
    result = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert result["correlations"]["miou drop"] is None
    assert result["subsets"]["dup_image"]["with"] == {"mean": None, "std": None}  # 4 images are too few
    assert result["scores"]["gap"]["drop"] == found.scores["gap"]["drop"]
    lines = found.table().splitlines()
    assert lines[0].split() == ["without", "with", "drop"]
    assert lines[1].split() == ["mse_rgb", "0.3", "0.15", "0.15"]
    assert "dup_image (% of images)       75       25        50" in lines


def test_mean_and_spread_over_seeds(scores):
    without, with_prior = scores
    other = compare(without, with_prior | {"mse_rgb": with_prior["mse_rgb"] + 0.1})
    found = over_seeds([compare(without, with_prior), other])
    assert found["scores"]["mse_rgb"]["with"] == pytest.approx({"mean": 0.2, "std": 0.1 / math.sqrt(2)})
    assert found["scores"]["gap"]["without"] == {"mean": 25, "std": 0}
    assert found["correlations"]["miou drop"] == {"mean": None, "std": None}
    assert over_seeds([other])["scores"]["gap"]["without"] == {"mean": 25, "std": None}


def test_bad_input(scores):
    without, with_prior = scores
    fewer = {name: values[:3] for name, values in with_prior.items()}
    with pytest.raises(InputError, match="mse_rgb has 4 images without the prior and 3 with it; evaluate both on the"):
        compare(without, fewer)
    with pytest.raises(InputError, match="there is no comparison to average"):
        over_seeds([])
