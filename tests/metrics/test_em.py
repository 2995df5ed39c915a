"""Losses and confidence of EM against loops over slots and pixels in numpy."""

import numpy as np
import pytest
import torch

from unscene.errors import InputError
from unscene.metrics import confidence, em_losses, em_upper_bound
from unscene.metrics.em import EMLosses


@pytest.fixture
def parts():
    """Image, means with exact zeros and ones, responsibilities, true ids (none in image 1), pixels near a collision."""
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(2, 1, 4, 5, generator=generator) < 0.4).float()
    means = torch.rand(2, 3, 1, 4, 5, generator=generator)
    means[0, 0, 0, 0], means[0, 1, 0, 1] = 0.0, 1.0
    gamma = torch.rand(2, 3, 4, 5, generator=generator)
    true = torch.randint(0, 3, (2, 4, 5), generator=generator)
    true[1] = 0
    return image, means, gamma / gamma.sum(1, keepdim=True), true, torch.rand(2, 4, 5, generator=generator) < 0.3


def plain_losses(image, means, gamma, where=None):
    """[intra, inter] of one image (H, W), means and gamma (K, H, W), pixel by pixel."""
    intra = inter = 0.0
    for (y, x), target in np.ndenumerate(image):
        if where is not None and not where[y, x]:
            continue
        for mean, share in zip(means[:, y, x], gamma[:, y, x], strict=True):
            mean = min(max(mean, 1e-6), 1 - 1e-6)
            intra -= share * (target * np.log(mean) + (1 - target) * np.log(1 - mean))
            inter += (1 - share) * np.log(1 / (1 - mean))  # KL(Bernoulli(0) || Bernoulli(mean))
    return intra, inter


def arrays(*tensors):
    return [tensor.double().numpy() for tensor in tensors]


def assert_close(losses, expected):
    assert losses.intra.dtype == losses.inter.dtype == torch.float64
    np.testing.assert_allclose(np.stack([losses.intra, losses.inter], 1), expected, rtol=1e-12)


def test_losses_inside_and_outside_of_the_shares(parts):
    image, means, gamma, _, near = parts
    single = list(zip(*arrays(image[:, 0], means[:, :, 0], gamma, near), strict=True))
    assert_close(em_losses(image, means, gamma), [plain_losses(*each[:3]) for each in single])
    assert_close(em_losses(image, means, gamma, near), [plain_losses(*each) for each in single])
    nowhere = em_losses(image, means, gamma, torch.zeros_like(near))
    assert (nowhere.intra == 0).all() and (nowhere.inter == 0).all()


def test_upper_bound_is_both_losses_of_the_largest_mean(parts):
    image, means, *_ = parts
    expected = []
    for target, largest in zip(*arrays(image[:, 0], means[:, :, 0].amax(1)), strict=True):
        ones = np.ones((1, *target.shape))
        expected.append(
            (plain_losses(target, largest[None], ones)[0], plain_losses(target, largest[None], 0 * ones)[1])
        )
    assert_close(em_upper_bound(image, means), expected)


def test_the_total_weighs_what_is_outside():
    losses = EMLosses(torch.tensor([2.0], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64))
    assert losses.total() == 5 and losses.total(0.5) == 3.5


def test_confidence_is_the_largest_mask_on_the_objects(parts):
    _, _, masks, true, _ = parts
    largest = [max(share[:, y, x]) for share in arrays(masks[0]) for y, x in np.argwhere(true[0].numpy() > 0)]
    found = confidence(masks, true)
    assert found.dtype == torch.float64 and found[0].item() == pytest.approx(np.mean(largest), rel=1e-12)
    assert found[1].isnan()  # no object
    assert confidence(torch.ones(1, 1, 4, 5), true[:1]) == 1


def test_means_of_another_image_are_refused(parts):
    image, means, gamma, *_ = parts
    message = r"means \(2, 3, 1, 4, 4\) do not predict image \(2, 1, 4, 5\); they must be \(B, K, C, H, W\)"
    for call in (lambda m: em_losses(image, m, gamma), lambda m: em_upper_bound(image, m)):
        with pytest.raises(InputError, match=message):
            call(means[..., :4])
    with pytest.raises(InputError, match=r"means \(2, 1, 4, 5\) do not predict"):
        em_upper_bound(image, means[:, 0])
