"""ARI against scikit-learn, image by image."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from unscene.errors import InputError
from unscene.metrics import ari, contingency, fg_ari


def sklearn_ari(true, pred, foreground=False):
    scores = []
    for t, p in zip(true.flatten(1).numpy(), pred.flatten(1).numpy(), strict=True):
        keep = t != 0 if foreground else np.ones_like(t, dtype=bool)
        scores.append(adjusted_rand_score(t[keep], p[keep]) if keep.any() else np.nan)
    return torch.tensor(scores, dtype=torch.float64)


def assert_equals_sklearn(true, pred):
    for function, foreground in ((ari, False), (fg_ari, True)):
        score = function(true, pred)
        assert score.dtype == torch.float64
        expected = sklearn_ari(true, pred, foreground)
        torch.testing.assert_close(score, expected, rtol=0, atol=1e-12, equal_nan=True)


def corrupted(true, fraction, generator):
    """The label map with some of its pixels drawn anew."""
    noise = torch.randint(0, 6, true.shape, generator=generator)
    return torch.where(torch.rand(true.shape, generator=generator) < fraction, noise, true)


@pytest.mark.parametrize("shape", [(6, 5, 7), (40, 1, 2), (3, 1, 1), (5, 3, 4, 6), (2, 512, 512), (2, 10, 128, 128)])
@pytest.mark.parametrize("fraction", [0.02, 0.6, 1.0])
def test_random_label_maps(shape, fraction):
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 4, shape, generator=generator)
    assert_equals_sklearn(true, corrupted(true, fraction, generator))


def test_nearly_single_clusters_of_many_pixels():
    # the textbook formula subtracts numbers near 2^35 here
    true, pred = torch.ones(3, 512, 512, dtype=torch.uint8), torch.ones(3, 512, 512, dtype=torch.uint8)
    true[0, 0, 0], pred[0, 0, 1] = 2, 2
    true[1, 0, 0], pred[1, 0, 0] = 2, 2
    true[2, 0, :2], pred[2, 0, :3] = 2, 2
    assert_equals_sklearn(true, pred)


def test_one_cluster_against_one_cluster_per_pixel():
    true = torch.ones(1, 512, 512, dtype=torch.int64)
    pred = torch.arange(512 * 512).view(1, 512, 512)
    assert ari(true, pred).item() == 0
    assert ari(true, true).item() == 1
    assert ari(pred[:, :64, :64], pred[:, :64, :64]).item() == 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_integer_dtypes(dtype):
    true = torch.tensor([[[0, 1, 1], [2, 2, 0]]])
    pred = torch.tensor([[[0, 0, 1], [2, 2, 3]]])
    assert_equals_sklearn(true, pred)
    assert ari(true.to(dtype), pred.to(dtype)).item() == ari(true, pred).item()


def test_sparse_and_huge_ids():
    generator = torch.Generator().manual_seed(1)
    true = torch.randint(0, 4, (4, 9, 8), generator=generator)
    pred = corrupted(true, 0.3, generator)
    names = torch.tensor([0, 7, 2**40, 2**62, 63, 1000])
    torch.testing.assert_close(fg_ari(names[true], names[pred]), fg_ari(true, pred), rtol=0, atol=0)


def test_ids_carry_no_meaning_but_zero_does():
    true = torch.tensor([[[0, 0], [1, 2]]])
    assert ari(true, 2 - true).item() == 1
    assert fg_ari(true, torch.tensor([[[5, 6], [1, 2]]])).item() == 1  # background split: ignored
    assert ari(true, torch.tensor([[[5, 6], [1, 2]]])).item() < 1


def test_known_value():
    # scikit-learn's documented example
    assert ari(torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 0, 1, 1]])).item() == pytest.approx(4 / 7, abs=1e-15)


def test_edge_cases():
    background, object_ = torch.zeros(1, 2, 3, dtype=torch.int64), torch.ones(1, 2, 3, dtype=torch.int64)
    halves = torch.tensor([[[1, 1, 1], [2, 2, 2]]])
    assert fg_ari(background, halves).isnan().all()  # no foreground: nothing to measure
    assert ari(background, object_).item() == 1  # a single cluster in both
    assert fg_ari(object_, background).item() == 1
    assert fg_ari(object_, halves).item() == 0  # one true object, split
    assert fg_ari(halves, object_).item() == 0  # constant prediction
    assert ari(halves[..., :1, :1], background[..., :1, :1]).item() == 1  # one pixel


def test_chunks_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    true = torch.randint(0, 500, (7, 6, 5), generator=generator)
    pred = torch.randint(0, 3, (7, 6, 5), generator=generator)
    expected = ari(true, pred)
    monkeypatch.setattr(contingency, "MAX_PIXELS", 100)
    assert torch.equal(ari(true, pred), expected)
    monkeypatch.setattr(contingency, "MAX_CELLS", 100)  # ids unique to images: split further
    assert torch.equal(ari(true, pred), expected)
    monkeypatch.setattr(contingency, "MAX_CELLS", 10)
    with pytest.raises(InputError, match="too many for a table"):
        ari(true, pred)


LABELS = torch.zeros(2, 3, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        (LABELS, LABELS[:1], r"of one shape, got true \(2, 3, 4\) and pred \(1, 3, 4\)"),
        (LABELS[:0], LABELS[:0], "not empty"),
        (LABELS[0, 0], LABELS[0, 0], r"label maps must be \(B, H, W\)"),
        (LABELS, LABELS.float(), "pred must hold integer ids, got torch.float32"),
        (LABELS - 1, LABELS, "true has the id -1; ids must be >= 0"),
        (LABELS, LABELS.to("meta"), "true is on cpu but pred on meta"),
    ],
)
def test_bad_input(true, pred, message):
    with pytest.raises(InputError, match=message):
        ari(true, pred)
