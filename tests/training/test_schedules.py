"""Schedules against values worked out by hand."""

import pytest

from unscene.errors import InputError
from unscene.training.schedules import Constant, ExponentialDecay, MultiStep, WarmupDecay


def test_constant():
    assert [Constant()(step) for step in (0, 10**9)] == [1, 1]


def test_exponential_decay_reaches_the_factor_after_decay_steps():
    schedule = ExponentialDecay(factor=0.25, decay_steps=100)
    assert [schedule(step) for step in (0, 50, 100, 200)] == pytest.approx([1, 0.5, 0.25, 0.0625])


def test_exponential_decay_also_while_it_warms_up():
    schedule = ExponentialDecay(factor=0.5, decay_steps=100_000, warmup_steps=10_000)  # Slot Attention's
    values = [min(1, s / 10_000) * 0.5 ** (s / 100_000) for s in (0, 1, 5_000, 10_000, 200_000)]
    assert [schedule(s) for s in (0, 1, 5_000, 10_000, 200_000)] == pytest.approx(values)
    assert values[2:] == pytest.approx([0.5 * 0.5**0.05, 0.5**0.1, 0.25])


@pytest.mark.parametrize(("shape", "quarter"), [("linear", 0.775), ("cosine", 0.1 + 0.9 * 0.8535533905932737)])
def test_warmup_plateau_decay(shape, quarter):
    schedule = WarmupDecay(decay_end=120, decay_start=20, warmup_steps=4, shape=shape, final=0.1)
    rise = [schedule(step) for step in range(5)]
    assert rise == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert schedule(20) == 1
    assert schedule(45) == pytest.approx(quarter)
    assert schedule(70) == pytest.approx(0.55)
    assert schedule(120) == schedule(10_000) == pytest.approx(0.1)


def test_decay_starts_after_the_warmup_by_default():
    assert WarmupDecay(decay_end=30, warmup_steps=10, shape="linear")(20) == pytest.approx(0.5)


def test_steps_at_the_milestones():
    schedule = MultiStep((100, 250), gamma=0.1)
    assert [schedule(step) for step in (0, 99, 100, 249, 250, 10**6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialDecay(factor=0.0), "factor must be above 0, got 0.0"),
        (lambda: ExponentialDecay(decay_steps=0), "decay_steps must be at least 1, got 0"),
        (lambda: ExponentialDecay(warmup_steps=-1), "warmup_steps must not be negative, got -1"),
        (lambda: MultiStep((5, 0)), r"milestones must be at least 1, got \(5, 0\)"),
        (lambda: MultiStep((5,), gamma=0.0), "gamma must be above 0, got 0.0"),
        (lambda: WarmupDecay(decay_end=5, warmup_steps=-1), "warmup_steps must not be negative, got -1"),
        (lambda: WarmupDecay(decay_end=5, final=-0.1), "final must not be negative, got -0.1"),
        (lambda: WarmupDecay(decay_end=5, warmup_steps=5), "warmup_steps <= decay_start < decay_end, got 5, 5, 5"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
