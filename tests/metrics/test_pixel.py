"""Reconstruction error and KL against numpy and torch.distributions."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from unscene.errors import InputError
from unscene.metrics import mse, mse_rgb, normal_kl


@pytest.mark.parametrize("shape", [(3, 1, 4, 5), (2, 6, 3, 4, 5)])
def test_mse_is_the_mean_over_everything_but_the_batch(shape):
    image, reconstruction = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = [
        np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(image.numpy(), reconstruction.numpy(), strict=True)
    ]
    assert mse(image, reconstruction).tolist() == pytest.approx(expected, rel=1e-12)


def test_mse_does_not_lose_a_bfloat16_reconstruction():
    assert mse(torch.full((1, 1, 2, 2), 0.25), torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).item() == 0.0625


@pytest.mark.parametrize("shape", [(3, 4, 5), (6, 3, 4, 5)])
def test_mse_rgb_is_the_squared_distance_of_colours(shape):
    image, reconstruction = torch.rand(2, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distance = np.linalg.norm((image - reconstruction).movedim(-3, -1).numpy(), axis=-1)
    expected = (distance**2).reshape(2, -1).mean(1)
    assert mse_rgb(image, reconstruction).tolist() == pytest.approx(expected, rel=1e-12)


def test_mse_does_not_broadcast():
    with pytest.raises(InputError, match=r"image \(2, 3, 4, 4\) and reconstruction \(2, 1, 4, 4\) must have one shape"):
        mse(torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4))


def test_normal_kl():
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    scale = torch.rand(3, 4, 5, dtype=torch.float64, generator=generator) + 0.1
    expected = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).sum((1, 2))
    torch.testing.assert_close(normal_kl(mean, scale), expected)
    assert normal_kl(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)).item() == 0
