"""GECO's two weights: their losses by hand, and the direction in which they move."""

import math

import pytest
import torch

from unscene.nn.geco import ErrorWeight, KLWeight


def scalar(x):
    return torch.tensor(float(x), requires_grad=True)


def test_kl_weight_by_hand():
    geco = KLWeight(goal=100.0, rate=1e-3)
    error, kl = scalar(110), scalar(7)
    assert geco(error, kl).item() == 117  # with beta from before the update
    assert geco.beta.item() == pytest.approx(math.exp(-1e-3 * 10))
    geco(scalar(90), kl)
    average = 0.99 * 110 + 0.01 * 90
    assert geco.error.item() == pytest.approx(average)
    assert geco.beta.item() == pytest.approx(math.exp(-1e-3 * 10) * math.exp(-1e-3 * (average - 100)))


def test_kl_weight_rises_ten_times_as_fast_as_it_falls_within_bounds():
    below, above = KLWeight(100.0, 1e-3), KLWeight(100.0, 1e-3)
    below(scalar(95), scalar(1)), above(scalar(105), scalar(1))
    assert below.beta.log().item() == pytest.approx(-10 * above.beta.log().item(), rel=1e-4)
    geco = KLWeight(100.0, 10.0, smallest=0.5, largest=2.0)
    geco(scalar(1000), scalar(1))
    assert geco.beta.item() == 0.5


def test_error_weight_moves_the_other_way():
    geco = ErrorWeight(goal=100.0, rate=1e-2, warmup=2)
    assert geco(scalar(110), scalar(7), 1).item() == 117 and geco.excess.isnan()
    error, kl = scalar(110), scalar(7)
    loss = geco(error, kl, 2)
    assert loss.item() == pytest.approx(7 + 10, rel=1e-2)  # softplus(0.55) is 1
    loss.backward()
    assert error.grad.item() == pytest.approx(1, rel=1e-2) and kl.grad.item() == 1
    assert geco.zeta.item() == pytest.approx(0.55 + 0.1)
    second = geco(scalar(50), scalar(7), 3)
    average = 0.99 * 10 + 0.01 * -50
    assert second.item() == pytest.approx(7 + math.log1p(math.exp(0.65)) * average, rel=1e-4)
    for _ in range(500):
        geco(scalar(0), scalar(7), 4)
    assert geco.zeta.item() == pytest.approx(0.55)


@pytest.mark.parametrize("geco", [KLWeight(1.0, 1.0), ErrorWeight(1.0, warmup=0)])
def test_evaluation_moves_nothing(geco):
    before = {name: value.clone() for name, value in geco.eval().named_buffers()}
    geco(scalar(5), scalar(1), *([7] if isinstance(geco, ErrorWeight) else []))
    for name, value in geco.named_buffers():
        torch.testing.assert_close(value, before[name], equal_nan=True)


def test_buffers_are_saved():
    geco = KLWeight(1.0, 1.0)
    geco(scalar(2), scalar(1))
    copy = KLWeight(1.0, 1.0)
    copy.load_state_dict(geco.state_dict())
    assert copy.beta == geco.beta and copy.error == geco.error


def test_kl_weight_of_images_keeps_the_same_error_per_value_at_any_size():
    geco = KLWeight.of_images((3, 64, 64), 0.5655, 1e-5, 1e-5, 1e3)
    assert geco.goal == pytest.approx(0.5655 * 12288) and geco.rate == pytest.approx(1e-5)
    assert (geco.smallest, geco.largest) == (1e-5, 1e3)
    small, large = (KLWeight.of_images((1, n, 2 * n), 0.5, 1e-5) for n in (16, 32))
    small(scalar(1.1 * small.goal), scalar(1)), large(scalar(1.1 * large.goal), scalar(1))
    assert small.beta.item() == pytest.approx(large.beta.item())
