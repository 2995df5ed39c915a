"""LDS against the paper's formula written out, and the anchors of its arithmetic."""

import math
from inspect import signature

import pytest
import torch

import unscene
from unscene import (
    IODINE,
    PROVIDE,
    EfficientMORL,
    Genesis,
    GenesisV2,
    MONet,
    MulMON,
    SequentialIODINE,
    SequentialPROVIDE,
    SlotAttention,
)
from unscene.errors import InputError
from unscene.models.base import SceneModel
from unscene.priors.lds import LDS

WITH_LDS = [IODINE, PROVIDE, MONet, Genesis, GenesisV2, MulMON, SlotAttention, EfficientMORL]
WITH_LDS += [SequentialIODINE, SequentialPROVIDE]


def slots(B=2, K=4, D=6, seed=0):
    return torch.randn(B, K, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_penalty_is_the_formula_over_ordered_pairs():
    z, prior = slots(), LDS(scale=0.3)
    expected = []
    for image in z:
        total = 0.0
        for h in range(4):
            for j in range(4):
                if h != j:
                    s = image[h] @ image[j] / (image[h].norm() * image[j].norm())
                    total += torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 0.3).log_prob(s)
        expected.append(total)
    torch.testing.assert_close(prior.log_prob(prior(z), 4), torch.stack(expected))


@pytest.mark.parametrize(("K", "constant"), [(5, 27.6729), (7, 58.1132), (11, 152.2011)])
def test_orthonormal_slots_leave_the_constant(K, constant):
    prior = LDS()
    z = torch.eye(K, 16, dtype=torch.float64).unsqueeze(0)
    assert prior(z).item() == 0
    assert prior.log_prob(prior(z), K).item() == pytest.approx(constant, abs=1e-4)


def test_identical_slots_cost_most_and_have_no_gradient():
    z = slots(1, 1).expand(1, 7, -1).clone().requires_grad_()
    prior = LDS()
    penalty = prior(z)
    assert prior.log_prob(penalty, 7).item() == pytest.approx(-2041.8868, abs=1e-3)
    (gradient,) = torch.autograd.grad(penalty.sum(), z)
    assert gradient.abs().max() < 1e-9


def test_invariant_to_scale_and_order_but_not_to_sign_for_positive_penalties():
    z, prior = slots(), LDS()
    torch.testing.assert_close(prior(z * torch.tensor([0.1, 3, 1, 20])[:, None]), prior(z))
    torch.testing.assert_close(prior(z[:, [2, 0, 3, 1]]), prior(z))
    opposite = torch.stack([z[:, 0], -z[:, 0]], 1)
    torch.testing.assert_close(prior(opposite), torch.full((2,), 100.0, dtype=torch.float64))
    assert LDS(penalty="half_gaussian")(opposite).abs().max() == 0
    assert LDS(penalty="hinge")(opposite).abs().max() == 0


def test_hinge_and_rbf_by_hand():
    z = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]], dtype=torch.float64)  # cosine sqrt(1/2), distance 1
    assert LDS(penalty="hinge")(z).item() == pytest.approx(2 * (math.sqrt(0.5) - 0.1) / 0.1)
    assert LDS(kernel="rbf")(z).item() == pytest.approx(2 * math.exp(-0.5) ** 2 / 0.02)


def test_mean_is_the_sum_over_the_number_of_pairs():
    z = slots()
    torch.testing.assert_close(LDS(reduction="mean")(z) * 12, LDS()(z))


def test_empty_slots_may_be_alike_with_presence():
    z = slots(1, 3)
    z[:, 2] = z[:, 1]
    masks = torch.zeros(1, 3, 4, 5, dtype=torch.float64)
    masks[:, 0], masks[:, 1, 0, 0] = 1, 0.5
    masks[:, 0, 0, 0] = 0.5
    prior = LDS(presence=True)
    pair = LDS()(z[:, :2])
    torch.testing.assert_close(prior(z, masks), 0.5 * pair)
    torch.testing.assert_close(LDS(presence=True, reduction="mean")(z, masks), pair / 2)


def test_gradient_and_single_slot():
    z = slots().requires_grad_()
    assert torch.autograd.gradcheck(LDS(penalty="half_gaussian", kernel="rbf"), z)
    assert torch.autograd.gradcheck(LDS(), z)
    assert LDS()(slots(K=1)).tolist() == [0, 0]
    assert LDS(reduction="mean")(slots(K=1)).tolist() == [0, 0]
    assert LDS()(torch.zeros(1, 3, 2)).isfinite().all()


@pytest.mark.parametrize("on", ["samples", "means"])
def test_gradient_is_that_of_each_images_weighted_penalty(on):
    samples, means = slots(), slots(seed=1)
    d_samples, d_means = LDS(weight=3.0, on=on).gradient(samples, means)
    z = (samples if on == "samples" else means).requires_grad_()
    (expected,) = torch.autograd.grad(3 * LDS()(z).sum(), z)
    seen, unseen = (d_samples, d_means) if on == "samples" else (d_means, d_samples)
    torch.testing.assert_close(seen, expected)
    assert unseen.abs().max() == 0


def test_float32_whatever_autocast_says():
    z = slots().float()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(LDS()(z), LDS()(z.double()).float())
        assert LDS()(z.bfloat16()).dtype == torch.float32


def test_options():
    assert LDS.from_options(None) is None
    assert LDS.from_options({"weight": 0.5}) == LDS(weight=0.5)
    with pytest.raises(InputError, match="lds has the option 'wieght'; it knows weight, scale"):
        LDS.from_options({"wieght": 1})
    with pytest.raises(InputError, match="lds.kernel is 'dot'; choose one of 'cosine', 'rbf'"):
        LDS.from_options({"kernel": "dot"})
    with pytest.raises(InputError, match="lds has weight 1.0 and scale 0.0; give one >= 0 and one > 0"):
        LDS.from_options({"scale": 0.0})
    for options in ({}, {"weight": 0.5}):
        with pytest.raises(InputError, match="lds compares slots, but num_slots is 1; give at least 2 slots, or leave"):
            LDS.from_options(options, num_slots=1)
    assert LDS.from_options(None, num_slots=1) is None
    assert LDS.from_options({}, num_slots=2) == LDS.from_options({}) == LDS()


@pytest.mark.parametrize("method", WITH_LDS)
def test_every_model_refuses_to_compare_a_single_slot(method):
    with pytest.raises(InputError, match="lds compares slots, but num_slots is 1; give at least 2 slots, or leave lds"):
        method(num_slots=1, lds={"weight": 0.5})


def test_these_are_all_models_that_have_lds():
    methods = [getattr(unscene, name) for name in unscene.__all__]
    models = [m for m in methods if isinstance(m, type) and issubclass(m, SceneModel)]
    assert {m for m in models if "lds" in options_of(m)} == set(WITH_LDS)


def options_of(method):
    """Names of the options of a class, those that it passes on included."""
    return {name for part in method.__mro__ if "__init__" in vars(part) for name in signature(part).parameters}
