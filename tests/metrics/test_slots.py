"""Similarity of slots against loops over pairs in numpy."""

import itertools

import numpy as np
import pytest
import torch

from unscene.errors import InputError
from unscene.metrics import slot_similarity


def plain(slots, of):
    """Mean over ordered pairs of one image's slots (K, D)."""
    pairs = itertools.permutations(slots.double().numpy(), 2)
    return np.mean([of(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs])


@pytest.mark.parametrize(("kind", "of"), [("signed", float), ("absolute", abs), ("squared", np.square)])
def test_mean_over_all_pairs(kind, of):
    slots = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = slot_similarity(slots, kind)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([plain(image, of) for image in slots], rel=1e-12)


def test_known_values():
    assert slot_similarity(3 * torch.eye(4)[None]).item() == 0
    equal = torch.tensor([1.0, -2.0, 0.5]).expand(1, 5, -1)
    assert slot_similarity(equal).item() == pytest.approx(1)
    opposite = torch.tensor([[[1.0, 2.0], [-2.0, -4.0]]])
    for kind, value in {"signed": -1, "absolute": 1, "squared": 1}.items():
        assert slot_similarity(opposite, kind).item() == pytest.approx(value)


def test_noise_has_a_floor_of_one_over_d():
    noise = torch.randn(2000, 3, 16, generator=torch.Generator().manual_seed(0))
    assert slot_similarity(noise, "squared").mean().item() == pytest.approx(1 / 16, rel=0.03)
    assert slot_similarity(noise, "absolute").mean().item() == pytest.approx(0.2026, rel=0.02)


def test_autocast_does_not_touch_it():
    slots = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(slot_similarity(slots), slot_similarity(slots.clone()))
        found = slot_similarity(slots)
    assert torch.equal(found, slot_similarity(slots))


def test_one_slot_has_no_pair_and_an_empty_one_is_like_none():
    assert slot_similarity(torch.randn(2, 1, 3)).isnan().all()
    assert slot_similarity(torch.zeros(1, 3, 4)).item() == 0


def test_unknown_kind():
    with pytest.raises(InputError, match="kind is 'cubed'; slot_similarity knows signed, absolute, squared"):
        slot_similarity(torch.zeros(1, 2, 3), "cubed")
