"""Accuracy of clusters against brute force, mutual information against scikit-learn."""

import itertools
from collections import Counter

import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from unscene.errors import InputError
from unscene.metrics import clustering_accuracy, nmi


def labels(size, high, seed):
    return torch.randint(0, high, (size,), generator=torch.Generator().manual_seed(seed))


def one_to_one(true, pred, num_clusters):
    best = max(
        sum(chosen[k] == n for n, k in zip(true, pred, strict=True))
        for chosen in itertools.permutations(range(num_clusters))
    )
    return best / len(true)


def majority(true, pred):
    by_cluster = {k: Counter(n for n, other in zip(true, pred, strict=True) if other == k) for k in set(pred)}
    return sum(max(counts.values()) for counts in by_cluster.values()) / len(true)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_clusters_as_classes_are_matched_one_to_one(seed):
    true = labels(60, 4, seed)
    pred = torch.where(labels(60, 2, seed + 50) > 0, 3 - true, labels(60, 4, seed + 100))
    expected = one_to_one(true.tolist(), pred.tolist(), 4)
    assert clustering_accuracy(true, pred) == pytest.approx(expected)
    assert clustering_accuracy(7 * true + 2, 5 * pred) == pytest.approx(expected)  # ids need not be dense


@pytest.mark.parametrize("num_clusters", [3, 6])
def test_otherwise_a_cluster_is_its_majority(num_clusters):
    true, pred = labels(60, 4, 0), labels(60, num_clusters, 1)
    assert clustering_accuracy(true, pred) == pytest.approx(majority(true.tolist(), pred.tolist()))


def test_empty_clusters_count():
    true, pred = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([1, 1, 1, 1, 1, 0])
    assert clustering_accuracy(true, pred, num_clusters=3) == pytest.approx(4 / 6)  # one to one: 3 of class 0 and 1
    pred = torch.tensor([0, 1, 2, 3, 3, 3])
    assert clustering_accuracy(true, pred) == pytest.approx(5 / 6)  # 4 clusters, 3 classes
    true, pred = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert clustering_accuracy(true, pred, num_clusters=3) == clustering_accuracy(true, pred) == pytest.approx(4 / 6)
    true, pred = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 2, 1])
    assert clustering_accuracy(true, pred) == 1  # majority of 3 clusters


def test_renamed_classes_are_right():
    true = labels(50, 6, 0)
    assert clustering_accuracy(true, (true + 2) % 6) == 1
    assert nmi(true, (true + 2) % 6) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("num_classes", "num_clusters"), [(4, 4), (3, 7), (5, 1), (1, 4), (1, 1), (2, 2)])
def test_nmi_is_that_of_scikit_learn(num_classes, num_clusters):
    for seed in range(3):
        true, pred = labels(80, num_classes, seed), labels(80, num_clusters, seed + 10)
        expected = normalized_mutual_info_score(true.numpy(), pred.numpy(), average_method="arithmetic")
        assert nmi(true, pred) == pytest.approx(expected, abs=1e-12)


def test_independent_clusterings_share_no_information():
    true, pred = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert nmi(true, pred) == pytest.approx(0, abs=1e-15)


def test_bad_input():
    true = torch.tensor([0, 1, 2])
    for pred, num_clusters, message in (
        (torch.tensor([0, 1]), None, r"labels \(M,\) of the same images, at least one, got \(3,\) and \(2,\)"),
        (torch.rand(3), None, "pred must hold integer labels, got torch.float32; take the argmax"),
        (true, 2, "num_clusters is 2, but pred has 3 clusters; count all of them"),
    ):
        with pytest.raises(InputError, match=message):
            clustering_accuracy(true, pred, num_clusters)
    with pytest.raises(InputError, match="at least one"):
        nmi(true[:0], true[:0])
