"""Scores of a confusion matrix against brute force over permutations, pixel by pixel; the fill rule against a loop."""

import itertools
import math

import pytest
import torch

from unscene.errors import InputError
from unscene.metrics import (
    confusion_matrix,
    fill_background,
    foreground_confusion,
    match_classes,
    segmentation_scores,
)


def labels(shape, high, seed):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def plain_scores(true, pred, num_classes, num_clusters, background=True):
    """Accuracy, mean recall and mean IoU of the best one-to-one renaming of clusters, from lists of labels."""
    pixels = [(n, k) for n, k in zip(true, pred, strict=True) if background or (n and k)]
    first = 0 if background else 1
    clusters = list(range(first, num_clusters)) + [f"none {n}" for n in range(num_classes)]  # a class may have none
    best = max(
        itertools.permutations(clusters, num_classes - first),
        key=lambda chosen: sum(k == chosen[n - first] for n, k in pixels),
    )
    recalls, ious = [], []
    for n, k in zip(range(first, num_classes), best, strict=True):
        of_class, of_cluster = ({i for i, pixel in enumerate(pixels) if pixel[j] == x} for j, x in ((0, n), (1, k)))
        if of_class:
            recalls.append(len(of_class & of_cluster) / len(of_class))
            ious.append(len(of_class & of_cluster) / len(of_class | of_cluster))
    right = sum(k == best[n - first] for n, k in pixels)
    return right / len(pixels), sum(recalls) / len(recalls), sum(ious) / len(ious)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("num_classes", "num_clusters"), [(4, 4), (3, 5), (5, 3), (2, 2), (4, 2)])
def test_scores_are_those_of_the_best_permutation(num_classes, num_clusters, background):
    for seed in range(2):
        true, noise = labels((3, 7, 9), num_classes, seed), labels((3, 7, 9), num_clusters, seed + 100)
        mixed = torch.where(labels(true.shape, 3, seed + 200) > 0, (true * 2 + 1) % num_clusters, noise)
        confusion = confusion_matrix(true, mixed, num_classes, num_clusters)
        flat = true.flatten().tolist(), mixed.flatten().tolist()
        expected = plain_scores(*flat, num_classes, num_clusters, background)
        assert segmentation_scores(confusion, background) == pytest.approx(expected, abs=1e-12)


def test_confusions_of_batches_add_up_and_labels_of_any_integers_do():
    true, pred = labels((6, 4, 5), 3, 0).to(torch.uint8), labels((6, 4, 5), 4, 1)
    whole = confusion_matrix(true, pred, 3, 4)
    assert whole.dtype == torch.int64
    parts = [confusion_matrix(true[part], pred[part], 3, 4) for part in (slice(0, 2), slice(2, 6))]
    assert torch.equal(whole, sum(parts))
    for n, k in itertools.product(range(3), range(4)):
        assert whole[n, k] == ((true == n) & (pred == k)).sum()


def test_permuted_labels_are_right():
    true = labels((2, 8, 8), 5, 0)
    renamed = torch.tensor([3, 0, 4, 1, 2])[true]
    confusion = confusion_matrix(true, renamed, 5, 5)
    assert match_classes(confusion).tolist() == [3, 0, 4, 1, 2]
    assert segmentation_scores(confusion) == (1, 1, 1)


def test_classes_and_clusters_that_are_left_over():
    confusion = torch.tensor([[10, 0], [0, 4], [0, 6]])
    assert match_classes(confusion).tolist() == [0, -1, 1]
    assert segmentation_scores(confusion) == pytest.approx((16 / 20, 2 / 3, (1 + 0 + 6 / 10) / 3))
    confusion = confusion.T.contiguous()
    assert match_classes(confusion).tolist() == [0, 2]
    assert segmentation_scores(confusion) == pytest.approx((16 / 20, (1 + 6 / 10) / 2, (1 + 6 / 10) / 2))


def test_a_class_without_pixels_is_left_out_of_the_means():
    assert segmentation_scores(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])) == pytest.approx(
        (7 / 8, (3 / 4 + 1) / 2, (3 / 4 + 4 / 5) / 2)
    )


def test_without_background_what_was_missed_is_forgiven():
    confusion = torch.tensor([[50, 0, 1], [20, 5, 0], [0, 1, 9]])
    assert segmentation_scores(confusion).accuracy == pytest.approx(64 / 86)
    assert segmentation_scores(confusion, background=False) == pytest.approx((14 / 15, 0.95, (5 / 6 + 9 / 10) / 2))


@pytest.mark.parametrize("confusion", [torch.zeros(3, 3, dtype=torch.int64), torch.ones(1, 4, dtype=torch.int64)])
def test_nothing_to_score(confusion):
    assert all(math.isnan(score) for score in segmentation_scores(confusion, background=False))


def test_cosegmentation_is_the_mean_of_the_accuracies_of_the_images():
    true, pred = labels((5, 6, 7), 4, 0), labels((5, 6, 7), 3, 1)
    confusion = foreground_confusion(confusion_matrix(true, pred, 4, 3))
    agreement = ((true > 0) == (pred > 0)).double().flatten(1).mean(1).mean().item()
    assert torch.equal(confusion, confusion_matrix(true > 0, pred > 0, 2, 2))
    assert segmentation_scores(confusion).accuracy == pytest.approx(max(agreement, 1 - agreement))
    flipped = foreground_confusion(confusion_matrix(true, (true == 0).long(), 4, 2))
    assert segmentation_scores(flipped) == (1, 1, 1)


def plain_fill(labels, colours, image):
    filled = labels.clone()
    for b, y, x in (labels == 0).nonzero().tolist():
        distances = [sum((a - b) ** 2 for a, b in zip(c[:, y, x], image[b, :, y, x], strict=True)) for c in colours[b]]
        filled[b, y, x] = 1 + min(range(len(distances)), key=lambda i: distances[i])
    return filled


@pytest.mark.parametrize("C", [1, 3])
def test_background_goes_to_the_layer_of_the_closest_colour(C):
    g = torch.Generator().manual_seed(C)
    colours = torch.rand(2, 4, C, 5, 6, generator=g, dtype=torch.float64)
    image = torch.rand(2, C, 5, 6, generator=g, dtype=torch.float64)
    found = labels((2, 5, 6), 5, 0)
    assert (found == 0).any()
    assert torch.equal(fill_background(found, colours, image), plain_fill(found, colours, image))


def test_fill_by_hand():
    """Two layers, red and green: closest in colour, not in space; the first of equal ones; other labels are kept."""
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).view(1, 2, 3, 1, 1).expand(1, 2, 3, 1, 5)
    image = torch.tensor([[1.0, 0, 0], [0.1, 0.8, 0], [0.9, 0.2, 0], [0.5, 0.5, 0], [1, 0, 0]]).T.view(1, 3, 1, 5)
    found = torch.tensor([[[1, 0, 0, 0, 2]]], dtype=torch.uint8)
    assert fill_background(found, colours, image).tolist() == [[[1, 2, 1, 1, 2]]]


def test_bad_input():
    good = torch.tensor([0, 1, 2])
    for true, pred, message in (
        (good.float(), good, "true must hold integer labels, got torch.float32; turn soft masks"),
        (good, good + 1, "pred has labels from 1 to 3, but they must lie in 0 to 2; count the background"),
        (good - 1, good, "true has labels from -1 to 1"),
        (good[None], good, r"true \(1, 3\) and pred \(3,\) must have one shape; resize one of them"),
    ):
        with pytest.raises(InputError, match=message):
            confusion_matrix(true, pred, 3, 3)
    image = torch.zeros(2, 3, 4, 4)
    with pytest.raises(InputError, match=r"colours \(1, 5, 3, 4, 4\) do not fit the image \(2, 3, 4, 4\)"):
        fill_background(torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(1, 5, 3, 4, 4), image)
