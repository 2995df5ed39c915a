"""Matched IoU against brute force over permutations, covering and matching against plain loops."""

import itertools
import math

import pytest
import torch

from unscene.errors import InputError
from unscene.metrics import greedy_miou, match_slots, miou, segmentation_covering


def iou(true, pred, i, k):
    a, b = true == i, pred == k
    return (a & b).sum().item() / (a | b).sum().item()


def objects_of(true, background):
    return [i for i in true.unique().tolist() if i != 0 or background]


def brute_force_miou(true, pred, background):
    objects, slots = objects_of(true, background), pred.unique().tolist()
    slots += [-1] * len(objects)  # an object may stay without slot
    if not objects:
        return math.nan
    totals = (
        sum(iou(true, pred, i, k) for i, k in zip(objects, chosen, strict=True))
        for chosen in itertools.permutations(slots, len(objects))
    )
    return max(totals) / len(objects)


def naive_covering(true, pred, background, weighted):
    total = weights = 0.0
    for i in objects_of(true, background):
        weight = (true == i).sum().item() if weighted else 1
        total += weight * max(iou(true, pred, i, k) for k in pred.unique().tolist())
        weights += weight
    return total / weights if weights else math.nan


def random_maps(num_true, num_pred, shape=(12, 4, 5)):
    generator = torch.Generator().manual_seed(num_true * 10 + num_pred)
    true = torch.randint(0, num_true, shape, generator=generator)
    pred = torch.randint(0, num_pred, shape, generator=generator)
    true[0] = 0  # an image of background only
    return true, torch.where(torch.rand(shape, generator=generator) < 0.5, pred, true % num_pred)


def assert_scores(scores, expected):
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("num_true", "num_pred"), [(3, 3), (4, 2), (2, 4), (1, 3), (3, 1)])
def test_miou_is_the_best_permutation(num_true, num_pred, background):
    true, pred = random_maps(num_true, num_pred)
    expected = [brute_force_miou(t, p, background) for t, p in zip(true, pred, strict=True)]
    assert_scores(miou(true, pred, background=background), expected)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("num_true", "num_pred"), [(3, 3), (6, 2), (1, 4)])
def test_covering_is_the_naive_loop(num_true, num_pred, background, weighted):
    true, pred = random_maps(num_true, num_pred, shape=(6, 3, 4, 5))
    expected = [naive_covering(t, p, background, weighted) for t, p in zip(true, pred, strict=True)]
    assert_scores(segmentation_covering(true, pred, background, weighted), expected)


def test_known_values():
    true = torch.tensor([[[0, 0, 1, 1], [0, 0, 2, 2]]])
    pred = torch.tensor([[[9, 9, 9, 4], [9, 9, 7, 7]]])  # background 4/5, object 1 1/2, object 2 1
    assert_scores(miou(true, pred), [(4 / 5 + 1 / 2 + 1) / 3])
    assert_scores(miou(true, pred, background=False), [3 / 4])
    assert_scores(segmentation_covering(true, pred), [3 / 4])
    assert_scores(segmentation_covering(true, pred, background=True), [(4 * 4 / 5 + 2 * 1 / 2 + 2) / 8])
    assert_scores(segmentation_covering(true, pred, background=True, weighted=False), [(4 / 5 + 1 / 2 + 1) / 3])


def test_slots_count_their_background_pixels():
    true = torch.tensor([[0, 0, 0, 1]])
    everything = torch.zeros_like(true)
    assert_scores(miou(true, everything, background=False), [1 / 4])
    assert_scores(segmentation_covering(true, everything), [1 / 4])


def test_perfect_prediction_with_other_ids():
    true, _ = random_maps(5, 1, shape=(3, 2, 6, 4))
    assert_scores(miou(true, 1000 * (7 - true)), [1.0] * 3)


def test_one_pixel_and_no_object():
    pixel = torch.zeros(1, 1, 1, dtype=torch.uint8)
    assert_scores(miou(pixel, pixel), [1.0])
    assert_scores(miou(pixel, pixel, background=False), [math.nan])
    assert_scores(segmentation_covering(pixel, pixel), [math.nan])


def one_hot(pred):
    return torch.nn.functional.one_hot(pred).movedim(-1, 1).float()


def naive_greedy(true, masks, background):
    """Of one image, as MulMON's evaluation does it: masks (K, H, W), true (H, W)."""
    best = []
    for i in objects_of(true, background):
        ious = []
        for slot in masks > 0.9:
            value = ((slot & (true == i)).sum().item() + 1e-6) / ((slot | (true == i)).sum().item() + 1e-6)
            ious.append(value if value > 0.05 else 0.0)
        best.append(max(ious))
    return sum(best) / len(best) if best else math.nan


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(("num_true", "num_pred"), [(4, 3), (2, 5), (6, 1)])
def test_greedy_miou_is_the_naive_loop(num_true, num_pred, background):
    true, pred = random_maps(num_true, num_pred)
    sharpness = 6 * torch.rand(12, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    masks = (sharpness * one_hot(pred)).softmax(1)  # some pixels belong to nobody
    expected = [naive_greedy(t, m, background) for t, m in zip(true, masks, strict=True)]
    assert_scores(greedy_miou(true, masks, background), expected)


def test_greedy_is_not_below_hungarian():
    true, pred = random_maps(4, 4, shape=(30, 6, 5))
    greedy, hungarian = greedy_miou(true, one_hot(pred)), miou(true, pred)
    assert (greedy > hungarian + 0.01).any() and (greedy > hungarian - 1e-6).all()


def test_greedy_miou_lets_a_slot_serve_twice_and_drops_tiny_overlaps():
    true = torch.tensor([[[1, 1, 2, 2]]])
    assert_scores(greedy_miou(true, torch.ones(1, 1, 1, 4)), [(2 + 1e-6) / (4 + 1e-6)])
    assert_scores(miou(true, torch.zeros_like(true)), [0.25])
    tiny = torch.zeros(1, 1, 40, dtype=torch.int64)
    tiny[..., 0] = 7  # 1 / 40 of the only slot
    assert_scores(greedy_miou(tiny, torch.ones(1, 1, 1, 40), background=False), [0.0])


def test_greedy_miou_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=r"masks \(1, 2, 3, 3\) do not fit true \(1, 3, 4\)"):
        greedy_miou(torch.zeros(1, 3, 4, dtype=torch.int64), torch.zeros(1, 2, 3, 3))
    with pytest.raises(InputError, match="threshold is 0.3; from 0.5 to 1"):
        greedy_miou(torch.zeros(1, 3, 3, dtype=torch.int64), torch.zeros(1, 2, 3, 3), threshold=0.3)


def test_match_slots_takes_the_largest_overlap():
    true = torch.tensor([[[0, 1, 1], [0, 1, 3]], [[0, 2, 2], [0, 2, 2]]])
    pred = torch.tensor([[[4, 4, 5], [4, 5, 5]], [[6, 6, 1], [6, 1, 1]]])
    assert match_slots(true, pred).tolist() == [[4, 5, -1, 5], [6, -1, 1, -1]]
    assert match_slots(true, pred, num_objects=6).tolist() == [[4, 5, -1, 5, -1, -1], [6, -1, 1, -1, -1, -1]]


def test_match_slots_of_any_integer_type():
    true, pred = torch.tensor([[[0, 2]]], dtype=torch.uint16), torch.tensor([[[3, 200]]], dtype=torch.uint8)
    assert match_slots(true, pred).tolist() == [[3, -1, 200]]


def test_match_slots_refuses_unknown_objects():
    with pytest.raises(InputError, match="true has the id 3 but num_objects is 3"):
        match_slots(torch.tensor([[0, 3]]), torch.tensor([[0, 1]]), num_objects=3)
