"""The inference gap where it is known: one slot that paints linearly, with Gaussian noise. Then IODINE's."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from toy_scenes import ToyModel, ToyVideoModel
from unscene import IODINE
from unscene.errors import InputError
from unscene.evaluation.gap import inference_gap, log_weights
from unscene.likelihoods import log_likelihood
from unscene.models.base import Losses, SceneModel
from unscene.nn.posterior import GaussianPosterior

NOISE, PIXELS, D = 0.5, 6, 3


class Linear(SceneModel):
    """x = A z + NOISE e. The columns of A are orthogonal, so that the true posterior has a diagonal covariance.

    The model's own posterior is off by ``shift`` true standard deviations, and ``stretch`` times as wide.
    """

    def __init__(self, shift=0.0, stretch=1.0, wander=0.0):
        super().__init__()
        self.shift, self.stretch, self.wander, self.most = shift, stretch, wander, 0
        columns = torch.linalg.qr(torch.randn(PIXELS, D, generator=torch.Generator().manual_seed(0)).double())[0]
        self.A = nn.Parameter(columns * torch.tensor([2.0, 1.0, 0.5]))

    def truth(self, x):
        """Mean and standard deviation (D,) of p(z | x)."""
        variance = 1 / (1 + self.A.square().sum(0) / NOISE**2)
        return variance * (x @ self.A) / NOISE**2, variance.sqrt()

    def posteriors(self, scenes):
        assert not self.training and not torch.is_grad_enabled()
        (x,) = scenes["image"].flatten(1).double()
        mean, scale = self.truth(x)
        mean = mean + scale * (self.shift + self.wander * torch.randn(D))

        def log_likelihood(slots):
            self.most = max(self.most, len(slots))
            return Normal(slots.squeeze(1) @ self.A.T, NOISE).log_prob(x).sum(1)

        q = GaussianPosterior(mean[None], self.stretch * scale[None], log_likelihood)
        return {"gap": q, "gap_again": q}

    def decompose(self, image, *, num_slots=None):
        raise NotImplementedError

    def loss(self, batch, step):
        return Losses(self.A.sum(), {})


@pytest.fixture
def scenes():
    return [{"image": x} for x in torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(1))]


def evidence(model, scenes):
    x = torch.stack([scene["image"].flatten() for scene in scenes]).double()
    covariance = model.A @ model.A.T + NOISE**2 * torch.eye(PIXELS)
    return MultivariateNormal(torch.zeros(PIXELS).double(), covariance).log_prob(x).detach().numpy()


def test_no_gap_for_the_exact_posterior(scenes):
    model = Linear()
    found = inference_gap(model, scenes, num_samples=50).values
    np.testing.assert_allclose(found["gap"], 0, atol=1e-9)
    np.testing.assert_allclose(found["gap_ess"], 50, rtol=1e-9)
    np.testing.assert_allclose(found["gap_std"], 0, atol=1e-9)
    for name in ("gap_log_evidence", "gap_elbo"):
        np.testing.assert_allclose(found[name], evidence(model, scenes), rtol=1e-9)


@pytest.mark.parametrize(("shift", "stretch"), [(0.5, 1.0), (0.0, 1.4), (-0.3, 0.9)])
def test_the_gap_is_the_divergence_of_the_posteriors(scenes, shift, stretch):
    model = Linear(shift, stretch)
    found = inference_gap(model, scenes, num_samples=20_000, chunk_size=5000).values
    divergence = D * 0.5 * (shift**2 + stretch**2 - 1 - 2 * np.log(stretch))
    np.testing.assert_allclose(found["gap"], divergence, atol=0.03)
    np.testing.assert_allclose(found["gap_log_evidence"], evidence(model, scenes), atol=0.03)
    assert (found["gap_ess"] > 1000).all() and (found["gap_ess"] < 19_000).all()


def test_few_samples_see_too_small_a_gap_but_never_a_negative_one(scenes):
    model = Linear(shift=4.0)
    gap = inference_gap(model, scenes, num_samples=20).values["gap"]
    assert (gap > 0).all() and (gap < 0.9 * D * 0.5 * 16).all()


def test_chunks_and_neighbours_do_not_matter_but_the_seed_does(scenes):
    model = Linear(shift=0.5, wander=1.0)  # this one's inference draws noise, too
    reference = inference_gap(model, scenes, num_samples=30, chunk_size=30).values
    for chunk_size in (1, 7, 1000):
        model.most = 0
        found = inference_gap(model, scenes[:3], num_samples=30, chunk_size=chunk_size).values
        assert model.most == min(chunk_size, 30)
        for name, values in found.items():
            np.testing.assert_allclose(values, reference[name][:3], rtol=1e-12, atol=1e-12)
    assert len(inference_gap(model, scenes, num_samples=30, limit=2).values["gap"]) == 2
    assert (inference_gap(model, scenes, num_samples=30, seed=1).values["gap"] != reference["gap"]).all()


def test_readings_of_one_scene_share_their_noise(scenes):
    found = inference_gap(Linear(shift=0.5), scenes, num_samples=5).values
    np.testing.assert_array_equal(found["gap"], found["gap_again"])
    np.testing.assert_array_equal(found["gap_ess"], found["gap_again_ess"])


def test_model_and_generators_are_left_as_they_were(scenes):
    model, state, seen = Linear(wander=1.0).train(), torch.get_rng_state(), []
    found = inference_gap(model, scenes, num_samples=4, progress=lambda done, total: seen.append((done, total)))
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert seen[-1] == (5, 5) and len(seen) == 5
    assert found.meta.items() >= {"model": "Linear", "dataset": "list", "num_samples": 4, "seed": 0, "n": 5}.items()
    assert "gap_ess" in found.table()


def test_weights_of_iodine_are_those_of_its_elbo():
    torch.manual_seed(0)
    sizes = {"decoder_channels": (4,), "refinement_channels": (4,), "refinement_mlp": (5,), "lstm_size": 5}
    model = IODINE(num_slots=3, iterations=2, latent_size=4, **sizes).double().eval()
    image = torch.rand(1, 3, 7, 6, dtype=torch.float64)
    torch.manual_seed(1)
    (posterior,) = model.posteriors({"image": image}).values()
    torch.manual_seed(1)
    d = model.decompose(image)
    assert posterior.noise_shape == (3, 4)
    noise = torch.randn(5, 3, 4)
    q, prior = Normal(d.slots, d.slot_scale), Normal(0.0, 1.0)
    z = d.slots + d.slot_scale * noise
    with torch.no_grad():
        means, logits = model.decode(z, (7, 6))
        expected = log_likelihood(model.likelihood, image.expand(5, -1, -1, -1), means, logits.log_softmax(1))
        expected = expected + (prior.log_prob(z) - q.log_prob(z)).sum((1, 2))
        torch.testing.assert_close(posterior.log_weights(noise), expected, rtol=1e-12, atol=1e-12)
    gap = inference_gap(model, [{"image": image[0]}], num_samples=6, num_slots=2, iterations=1)
    assert gap.values["gap"] > 0 and gap.meta["num_slots"] == 2 and gap.meta["iterations"] == 1


def test_noise_is_the_same_whatever_the_precision():
    def posterior(dtype):
        return GaussianPosterior(torch.zeros(2, 3, dtype=dtype), torch.ones(2, 3, dtype=dtype), lambda z: z.sum((1, 2)))

    single, double = (log_weights(posterior(dtype), 8, 3, seed=0) for dtype in (torch.float32, torch.float64))
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, double, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (ToyModel(), {}, "ToyModel has no posteriors of images to sample from; the inference gap is that of a"),
        (ToyVideoModel(), {}, "ToyVideoModel has no posteriors"),
        (Linear(), {"num_samples": 0}, "num_samples is 0 and chunk_size 20; both need to be above 0"),
        (Linear(), {"chunk_size": 0}, "chunk_size 0"),
        (Linear(), {"iterations": 2}, "Linear does not refine in iterations"),
    ],
)
def test_bad_input(model, options, message, scenes):
    with pytest.raises(InputError, match=message):
        inference_gap(model, scenes, **options)
