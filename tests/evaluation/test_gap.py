"""The inference gap where it is known: one slot that paints linearly, with Gaussian noise. Then IODINE's, MulMON's."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from toy_scenes import ToyModel, ToyVideoModel
from toy_views import ToyMultiView
from unscene import IODINE, MulMON
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


class LinearViews(Linear):
    """View t is (1 + t) A z + NOISE e: the true belief after every view is a diagonal Gaussian too.

    The model's beliefs after the first view and later ones are off by ``shift`` and ``stretch`` of the update by that
    view, made exactly from the belief before it.
    """

    def update(self, mean, variance, x, t):
        """The moments after view t, if those before it were N(mean, variance)."""
        A = (1 + t) * self.A
        after = 1 / (1 / variance + A.square().sum(0) / NOISE**2)
        return after * (mean / variance + x @ A / NOISE**2), after

    def view_posteriors(self, scenes):
        mean, variance, found = torch.zeros(D).double(), torch.ones(D).double(), []
        for t, x in enumerate(scenes["image"][0].flatten(1).double()):
            before = mean[None], variance.sqrt()[None]
            mean, variance = self.update(mean, variance, x, t)
            mean, variance = mean + self.shift * variance.sqrt(), variance * self.stretch**2

            def log_likelihood(slots, x=x, A=(1 + t) * self.A):
                return Normal(slots.squeeze(1) @ A.T, NOISE).log_prob(x).sum(1)

            found.append(GaussianPosterior(mean[None], variance.sqrt()[None], log_likelihood, *before))
        return found


@pytest.fixture
def views():
    return [{"image": x} for x in torch.randn(2, 3, 1, 2, 3, generator=torch.Generator().manual_seed(1))]


def test_the_evidence_of_views_is_how_well_the_views_before_predict_them(views):
    """With exact beliefs, and only then, that of all views together adds up to their joint evidence."""
    model = LinearViews()
    found = inference_gap(model, views, num_samples=50, per_view=True)
    assert found.values["gap"].shape == (6,) and found.meta["per_view"] and found.meta["n"] == 2
    np.testing.assert_allclose(found.values["gap"], 0, atol=1e-9)
    A = torch.cat([(1 + t) * model.A for t in range(3)])
    joint = MultivariateNormal(torch.zeros(3 * PIXELS).double(), A @ A.T + NOISE**2 * torch.eye(3 * PIXELS))
    expected = joint.log_prob(torch.stack([scene["image"].flatten() for scene in views]).double()).detach()
    np.testing.assert_allclose(found.values["gap_log_evidence"].reshape(2, 3).sum(1), expected, rtol=1e-9)


def test_the_gap_of_a_view_is_the_divergence_from_the_exact_update(views):
    shift, stretch = 0.3, 1.2
    found = inference_gap(LinearViews(shift, stretch), views, num_samples=20_000, chunk_size=20_000, per_view=True)
    divergence = D * 0.5 * (shift**2 + stretch**2 - 1 - 2 * np.log(stretch))
    np.testing.assert_allclose(found.values["gap"], divergence, atol=0.03)


def test_views_have_noise_of_their_own_and_chunks_do_not_matter(views):
    twice = [{"image": views[0]["image"][:1].expand(2, -1, -1, -1)}]
    model = LinearViews(shift=1.0)
    model.update = lambda mean, variance, x, t: (torch.zeros(D).double(), torch.ones(D).double())
    gap = inference_gap(model, twice, num_samples=9, per_view=True).values["gap"]
    assert gap[0] != gap[1]
    again = inference_gap(model, twice, num_samples=9, chunk_size=2, per_view=True).values["gap"]
    np.testing.assert_allclose(again, gap, rtol=1e-12)


def tiny_mulmon():
    """One latent number in each of two slots, decoded to 7 x 8 pixels, with much noise: a grid can integrate it."""
    torch.manual_seed(0)
    sizes = {"view_hidden": 4, "projector_hidden": 4, "decoder_channels": (4,), "refinement_channels": (4,)}
    sizes |= {"refinement_mlp": (4,), "lstm_size": 4, "image_size": (7, 8), "latent_size": 1}
    model = MulMON(num_slots=2, iterations=3, likelihood_scale=1.5, **sizes).double().eval()
    with torch.no_grad():
        model.initial_belief.copy_(torch.tensor([0.3, -0.5]))
        for parameter in model.decoder.parameters():
            parameter *= 2
        for parameter in model.refinement.head.parameters():
            parameter *= -0.25  # wider beliefs: all evidence of the samples is in their middle
    return model, {"image": torch.rand(2, 3, 7, 8).double(), "viewpoint": torch.randn(2, 3).double()}


def exact_gap(model, scene, posterior, prior, views):
    """log p and KL(q || p(z | x)) of the slots by the midpoint rule on a grid; density of the views from `render`."""
    line = torch.arange(-6, 6, 0.2, dtype=torch.float64) + 0.1
    z = torch.cartesian_prod(line, line)[:, :, None]
    log_q = Normal(posterior.mean, posterior.scale).log_prob(z).sum((1, 2))
    log_joint = Normal(*prior).log_prob(z).sum((1, 2))
    for v in views:
        shown = model.render(z, scene["viewpoint"][v].expand(len(z), 1, -1))
        pixels = Normal(shown.components[:, 0], 1.5).log_prob(scene["image"][v]) + shown.masks[:, 0].log().unsqueeze(2)
        log_joint = log_joint + pixels.logsumexp(1).sum((1, 2, 3))
    assert log_q.exp().sum() * 0.2**2 == pytest.approx(1, abs=1e-6)  # the grid is wide and fine enough
    log_evidence = log_joint.logsumexp(0) + 2 * np.log(0.2)
    divergence = (log_q.exp() * (log_q - log_joint + log_evidence)).sum() * 0.2**2
    return log_evidence.item(), divergence.item()


@pytest.mark.parametrize("per_view", [False, True])
def test_gaps_of_mulmon_are_those_of_a_grid(per_view, monkeypatch):
    model, scene = tiny_mulmon()
    name, drawn = "view_posteriors" if per_view else "posteriors", []
    original = getattr(model, name)

    def remembered(*args):
        found = original(*args)
        drawn.extend(found if per_view else [found])
        return found

    monkeypatch.setattr(model, name, remembered)
    found = inference_gap(model, [scene], num_samples=20_000, chunk_size=20_000, per_view=per_view).values
    posteriors = drawn if per_view else drawn[0].values()
    mean, logvar = model.initial_belief.detach().chunk(2)
    prior = mean, (0.5 * logvar).exp()
    for v, posterior in enumerate(posteriors):
        expected = exact_gap(model, scene, posterior, prior, [v] if per_view else [0, 1])
        np.testing.assert_allclose(found["gap_log_evidence"][v], expected[0], rtol=0, atol=0.02)
        np.testing.assert_allclose(found["gap"][v], expected[1], rtol=0, atol=0.03)
        assert expected[1] > 0.05
        prior = posterior.mean, posterior.scale
    assert len(found["gap"]) == len(posteriors)


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
        (Linear(), {"per_view": True}, "Linear has no belief that grows view by view; leave per_view out"),
        (ToyMultiView(), {"per_view": True}, "ToyMultiView has no posteriors of images"),
    ],
)
def test_bad_input(model, options, message, scenes):
    with pytest.raises(InputError, match=message):
        inference_gap(model, scenes, **options)
