"""Normal distributions of latents against torch's, and what the autoregressive prior may look at."""

import pytest
import torch

from unscene.nn.autoregressive import AutoregressivePrior, Latent, Normal


def test_log_prob_is_that_of_torch():
    normal = Normal(torch.randn(2, 3, 4), torch.rand(2, 3, 4) + 0.1)
    z = normal.sample()
    expected = torch.distributions.Normal(*normal).log_prob(z).sum(2)
    torch.testing.assert_close(normal.log_prob(z), expected)
    torch.testing.assert_close(normal.at(torch.zeros(2, 3, 4)), normal.mean)


def test_scales_and_means_by_hand():
    parameters = torch.tensor([2.0, -0.5])
    mean, scale = Normal.posterior(parameters)
    assert mean.item() == 2 and scale.item() == pytest.approx(0.693147)  # log 2
    mean, scale = Normal.prior(torch.tensor([2.0, -4.0]))
    assert mean.item() == pytest.approx(0.964028) and scale.item() == pytest.approx(0.5001)


def test_one_sample_kl_is_right_on_average():
    posterior = Normal(torch.full((20_000, 2, 1), 0.5), torch.full((20_000, 2, 1), 0.3))
    prior = Normal(torch.zeros(20_000, 2, 1), torch.ones(20_000, 2, 1))
    expected = torch.distributions.kl_divergence(*(torch.distributions.Normal(*x) for x in (posterior, prior)))
    latent = Latent(posterior, prior, posterior.sample())
    assert latent.kl().mean().item() == pytest.approx(expected[0].sum().item(), rel=0.03)


def test_a_slot_sees_the_slots_before_it():
    prior, z = AutoregressivePrior(3, 5), torch.randn(2, 4, 3)
    mean, scale = prior(z)
    assert (mean[:, 0] == 0).all() and (scale[:, 0] == 1).all()
    changed = z.clone()
    changed[:, 2] += 1
    different = (prior(changed).mean != mean).flatten(2).any(2)
    assert different.tolist() == [[False, False, False, True]] * 2
    assert (mean.abs() < 1).all() and (scale < 1.0002).all()


def test_one_slot_has_a_standard_prior():
    prior = AutoregressivePrior(3, 5)
    mean, scale = prior(torch.randn(2, 1, 3))
    assert mean.shape == (2, 1, 3) and (mean == 0).all() and (scale == 1).all()
    assert prior.sample(2, 1).shape == (2, 1, 3)
