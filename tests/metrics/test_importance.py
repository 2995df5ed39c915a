"""Evidence, ELBO and effective sample size of log weights against numpy on the weights themselves."""

import numpy as np
import pytest
import torch

from unscene.metrics import importance_gap


def test_equals_numpy():
    log_weights = torch.randn(4, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    found = importance_gap(log_weights)
    weights = np.exp(log_weights.numpy())
    np.testing.assert_allclose(found.log_evidence, np.log(weights.mean(1)), rtol=1e-12)
    np.testing.assert_allclose(found.elbo, np.log(weights).mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.gap, np.log(weights.mean(1)) - np.log(weights).mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.std, np.log(weights).std(1), rtol=1e-12)
    np.testing.assert_allclose(found.ess, weights.sum(1) ** 2 / (weights**2).sum(1), rtol=1e-12)
    assert (found.gap >= 0).all()


def test_weights_that_no_exponential_can_hold():
    log_weights = torch.tensor([[12345.0, 12345.0, 12345.0], [-50000.0, -60000.0, -70000.0]])
    found = importance_gap(log_weights)
    assert found.gap.tolist() == pytest.approx([0, 10000 - np.log(3)])
    assert found.ess.tolist() == pytest.approx([3, 1])


def test_a_single_sample_has_no_gap():
    assert importance_gap(torch.tensor([[3.0]])).gap.item() == 0
