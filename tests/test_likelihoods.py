"""Spatial mixtures against naive sums, automatic differentiation and scipy's densities."""

import math

import pytest
import scipy.stats
import torch

from unscene.likelihoods import Gaussian, Logistic, gaussian_kl, log_likelihood, logsumexp_others, spatial_mixture

BOTH = [Gaussian(), Logistic()]


def example(K=3, spread=0.1, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 4, 5, generator=g, dtype=dtype)
    means = image.unsqueeze(1) + spread * torch.randn(2, K, 3, 4, 5, generator=g, dtype=dtype)
    return image, means, torch.randn(2, K, 4, 5, generator=g, dtype=dtype)


@pytest.mark.parametrize("likelihood", BOTH)
def test_density_and_score_against_scipy_and_autograd(likelihood):
    x = torch.linspace(-0.4, 0.5, 31, dtype=torch.float64)
    mean = torch.tensor(0.1, dtype=torch.float64).expand(31).clone().requires_grad_()
    density = {Gaussian: scipy.stats.norm, Logistic: scipy.stats.logistic}[type(likelihood)]
    value = likelihood.log_prob(x, mean)
    expected = torch.from_numpy(density.logpdf(x.numpy(), 0.1, likelihood.scale))
    torch.testing.assert_close(value.detach(), expected)
    (gradient,) = torch.autograd.grad(value.sum(), mean)
    torch.testing.assert_close(likelihood.score(x, mean.detach()), gradient)


@pytest.mark.parametrize("likelihood", BOTH)
def test_mixture_is_the_sum_over_slots(likelihood):
    image, means, logits = example()
    mixture = spatial_mixture(likelihood, image, means, logits)
    masks = logits.softmax(1)
    densities = likelihood.log_prob(image.unsqueeze(1), means).sum(2).exp()
    torch.testing.assert_close(mixture.log_prob[:, 0], (masks * densities).sum(1).log())
    responsibilities = masks * densities / (masks * densities).sum(1, keepdim=True)
    torch.testing.assert_close(mixture.responsibilities, responsibilities.unsqueeze(2))
    torch.testing.assert_close(mixture.mask_posterior, densities / densities.sum(1, keepdim=True))
    for k in range(3):
        others = [j for j in range(3) if j != k]
        renormalised = masks[:, others] / masks[:, others].sum(1, keepdim=True)
        without = (renormalised * densities[:, others]).sum(1).log()
        torch.testing.assert_close(mixture.leave_one_out[:, k], mixture.log_prob[:, 0] - without)


def test_without_its_constant_a_perfect_mean_has_log_density_zero():
    x = torch.linspace(0, 1, 5)
    assert Gaussian(0.3, normalised=False).log_prob(x, x).tolist() == [0] * 5
    difference = Gaussian(0.3).log_prob(x, 0 * x) - Gaussian(0.3, normalised=False).log_prob(x, 0 * x)
    torch.testing.assert_close(difference, Gaussian(0.3).log_prob(x, x))


@pytest.mark.parametrize("likelihood", BOTH)
def test_a_mixture_per_channel_is_that_of_each_channel_alone(likelihood):
    image, means, logits = example()
    mixture = spatial_mixture(likelihood, image, means, logits, per_channel=True)
    alone = [spatial_mixture(likelihood, image[:, c : c + 1], means[:, :, c : c + 1], logits) for c in range(3)]
    torch.testing.assert_close(mixture.log_prob, sum(one.log_prob for one in alone))
    torch.testing.assert_close(mixture.responsibilities, torch.cat([one.responsibilities for one in alone], 2))
    torch.testing.assert_close(mixture.means_gradient, torch.cat([one.means_gradient for one in alone], 2))
    torch.testing.assert_close(mixture.mask_gradient, sum(one.mask_gradient for one in alone))
    torch.testing.assert_close(mixture.mask_posterior, spatial_mixture(likelihood, image, means, logits).mask_posterior)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("likelihood", BOTH)
def test_gradients_of_all_outputs(likelihood, per_channel):
    image, means, logits = example(spread=0.05)

    def outputs(means, logits):
        mixture = spatial_mixture(likelihood, image, means, logits, per_channel)
        return mixture.log_prob, mixture.masks, mixture.mask_posterior

    assert torch.autograd.gradcheck(outputs, (means.requires_grad_(), logits.requires_grad_()))


@pytest.mark.parametrize("likelihood", BOTH)
def test_closed_form_gradients_of_the_loss(likelihood):
    image, means, logits = example()
    means.requires_grad_()
    logits.requires_grad_()
    mixture = spatial_mixture(likelihood, image, means, logits)
    plain = (logits.log_softmax(1) + likelihood.log_prob(image.unsqueeze(1), means).sum(2)).logsumexp(1)
    d_means, d_logits = torch.autograd.grad(-plain.sum(), (means, logits))
    torch.testing.assert_close(mixture.means_gradient, d_means)
    torch.testing.assert_close(mixture.mask_gradient, d_logits)


def test_leave_one_out_survives_a_slot_that_explains_everything():
    """Others at e^-5000 of the winner: a subtraction would give log 0."""
    logits = torch.tensor([0.0, -5000.0, -5001.0]).view(1, 3, 1, 1)
    expected = torch.tensor([-5000 + math.log1p(math.exp(-1)), 0.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(logsumexp_others(logits), expected)


def test_leave_one_out_with_ties_and_one_slot():
    ties = torch.zeros(1, 4, 1, 1)
    torch.testing.assert_close(logsumexp_others(ties), torch.full((1, 4, 1, 1), math.log(3)))
    image, means, logits = example(K=1)
    assert spatial_mixture(Gaussian(), image, means, logits).leave_one_out.abs().max() == 0


def test_kl_against_torch_distributions():
    mean, variance = torch.randn(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64) + 0.1
    q, p = torch.distributions.Normal(mean, variance.sqrt()), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(gaussian_kl(mean, variance), torch.distributions.kl_divergence(q, p))


@pytest.mark.parametrize("scale", [0.1, torch.tensor([0.09, 0.11, 0.3], dtype=torch.float64)[:, None, None, None]])
def test_log_likelihood_of_pixels_channels_and_means(scale):
    image, means, logits = example()
    masks, x = logits.softmax(1), image.unsqueeze(1)
    density = torch.distributions.Normal(means, scale).log_prob(x).exp()
    pixel = (masks * density.prod(2)).sum(1).log().sum((1, 2))
    channel = (masks.unsqueeze(2) * density).sum(1).log().sum((1, 2, 3))
    arguments = Gaussian(scale), image, means, masks.log()
    torch.testing.assert_close(log_likelihood(*arguments), pixel)
    torch.testing.assert_close(log_likelihood(*arguments, "channel"), channel)
    if isinstance(scale, float):
        mean = torch.distributions.Normal((masks.unsqueeze(2) * means).sum(1), scale).log_prob(image).sum((1, 2, 3))
        torch.testing.assert_close(log_likelihood(*arguments, "mean"), mean)


def test_the_three_agree_where_one_mask_is_one():
    image, means, _ = example(K=1)
    values = [
        log_likelihood(Gaussian(), image, means, torch.zeros(2, 1, 4, 5).double(), event)
        for event in ("pixel", "channel", "mean")
    ]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_gradient_of_slots_with_scales_of_their_own():
    image, means, logits = example()
    likelihood = Gaussian(torch.tensor([0.09, 0.11, 0.3], dtype=torch.float64)[:, None, None, None])
    inputs = means.requires_grad_(), logits.requires_grad_()
    for event in ("pixel", "channel"):
        assert torch.autograd.gradcheck(lambda m, a, e=event: log_likelihood(likelihood, image, m, a, e), inputs)
