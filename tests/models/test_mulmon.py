"""MulMON against the textbook version, its parameter counts, weights, verbs and refusals."""

import weakref

import pytest
import torch
from torch.distributions import Normal

from plain_mulmon import decode, draw_views, log_density, mulmon_loss, view_loss
from unscene import InputError, MulMON, load
from unscene.models.base import check_choices
from unscene.models.mulmon import rising_weights

TINY = {
    "image_size": (16, 18),
    "num_slots": 3,
    "iterations": 3,
    "latent_size": 4,
    "view_hidden": 5,
    "projector_hidden": 6,
    "decoder_channels": (6, 5),
    "refinement_channels": (5, 4, 6),
    "refinement_mlp": (8, 7),
    "lstm_size": 9,
}


def scenes(batch=2, views=4, dtype=torch.float32, height=16, width=18, channels=3, numbers=3):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, views, channels, height, width, generator=generator, dtype=dtype)
    return {"image": image, "viewpoint": torch.randn(batch, views, numbers, generator=generator, dtype=dtype)}


def model(**options):
    """In float64, and away from symmetric values, so that every term matters."""
    torch.manual_seed(0)
    model = MulMON(**TINY | options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


# ---- the fast version against it ---------------------------------------------------------------------------------


def test_before_single_view_steps_one_view_is_observed_and_none_queried():
    m, batch = model(single_view_steps=3), scenes(dtype=torch.float64)
    for step in (2, 3):
        torch.manual_seed(1)
        fast = m.loss(batch, step)
        torch.manual_seed(1)
        viewpoint, observed, queried = draw_views(m, batch["viewpoint"])
        if step == 2:
            observed, queried = observed[:, :1], queried[:, :0]
        torch.testing.assert_close(fast.total, mulmon_loss(m, batch["image"], viewpoint, observed, queried))
        assert ("query_nll" in fast.terms) == (step == 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kl": "analytic", "first_prior": "normal", "view_code_size": 2},
        {"view_in_refinement": True, "query_weight": 0.3, "max_observed": 2},
        {"recompute": True},
        {"mixture_event": "pixel", "lstm_size": None},
        {"lds": {}, "recompute": True},
        {"lds": {"weight": 0.7, "iterations": "last", "presence": True}},
        {"lds": {"in_refinement": True}, "lds_on_projected": True},
        {"lds": {"in_refinement": True, "on": "means"}},
        {"lds": {"on": "means"}, "lds_on_projected": True},
        {"num_slots": 1},
    ],
    ids=str,
)
def test_equals_the_plain_version_in_values_and_gradients(options):
    m, batch = model(**options), scenes(dtype=torch.float64)
    torch.manual_seed(1)
    fast = m.loss(batch).total
    torch.manual_seed(1)
    plain = mulmon_loss(m, batch["image"], *draw_views(m, batch["viewpoint"]))
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)
    mine, textbook = gradients(m, fast), gradients(m, plain)
    for name in mine:
        scale = textbook[name].abs().max().clamp(min=1e-3)
        torch.testing.assert_close(mine[name] / scale, textbook[name] / scale, rtol=1e-6, atol=1e-7, msg=name)


def gradients(m, loss):
    m.zero_grad()
    loss.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in m.named_parameters()}


def test_one_view_without_queries_is_iterative_inference_with_the_learned_prior():
    m, batch = model(query_weight=0.0, view_noise=0.0).eval(), scenes(views=1, dtype=torch.float64)
    torch.manual_seed(1)
    losses = m.loss(batch)
    torch.manual_seed(1)
    m._choose(2, 1, torch.device("cpu"))  # the same noise from here on
    start = m.initial_belief.expand(2, 3, -1)
    expected, _ = view_loss(m, batch["image"][:, 0], batch["viewpoint"][:, 0], start, start)
    torch.testing.assert_close(losses.total, expected)
    assert losses.terms.keys() == {"nll", "kl"}


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_weights_of_iterations_and_views_sum_to_one(count):
    weights = rising_weights(count)
    assert sum(weights) == pytest.approx(1)
    assert weights == pytest.approx([(t / count) * 2 / (count + 1) for t in range(1, count + 1)])


def test_parameter_counts():
    counts = {size: sum(p.numel() for p in MulMON(view_size=size).parameters()) for size in (3, 7)}
    assert counts == {3: 471_671, 7: 474_747}


def test_bfloat16_convolutions_stay_close_to_float64():
    m, batch = model().float(), scenes()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = m.loss(batch).total
    torch.manual_seed(1)
    torch.testing.assert_close(fast, m.loss(batch).total, rtol=0.02, atol=0)
    assert fast.dtype == torch.float32


def test_terms_of_the_log():
    losses = model(lds={}).loss(scenes(dtype=torch.float64))
    assert losses.terms.keys() == {"nll", "kl", "lds", "query_nll"}
    assert not any(term.requires_grad for term in losses.terms.values())


# ---- which views are observed ------------------------------------------------------------------------------------


def test_some_views_are_observed_and_the_rest_is_queried():
    m, found = model(max_observed=3), set()
    for _ in range(60):
        observed, queried = m._choose(2, 5, torch.device("cpu"))
        found.add(observed.shape[1])
        assert torch.cat([observed, queried], 1).sort(1).values.tolist() == [list(range(5))] * 2
    assert found == {1, 2, 3}


def test_one_view_at_least_remains_to_be_queried():
    m = model(max_observed=6)
    assert {m._choose(1, 3, torch.device("cpu"))[1].shape[1] for _ in range(30)} == {1, 2}
    assert [index.shape[1] for index in m._choose(1, 1, torch.device("cpu"))] == [1, 0]


def test_options_of_the_order():
    given = model(order="given")._choose(3, 4, torch.device("cpu"))
    assert torch.cat(given, 1).tolist() == [[0, 1, 2, 3]] * 3
    torch.manual_seed(0)
    observed, queried = model(query="all")._choose(50, 4, torch.device("cpu"))
    assert queried.shape[1] == 4 - observed.shape[1]
    assert any(set(o) & set(q) for o, q in zip(observed.tolist(), queried.tolist(), strict=True))


def test_viewpoints_are_noisy_in_training_only():
    m, batch = model(view_noise=0.5, max_observed=1), scenes(dtype=torch.float64)

    def loss(m):
        torch.manual_seed(1)
        return m.loss(batch).total.item()

    assert loss(m.eval()) == loss(model(view_noise=0.0, max_observed=1).eval())
    assert loss(m.train()) != loss(model(view_noise=0.0, max_observed=1).train())


# ---- use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_slots", "iterations", "views"), [(1, 2, 1), (2, 1, 3), (5, 4, 2)])
def test_decomposes_any_number_of_slots_views_and_iterations(num_slots, iterations, views):
    m = MulMON(**TINY)
    for batch in (1, 3):
        given = scenes(batch, views)
        d = m.decompose(given["image"], given["viewpoint"], num_slots=num_slots, iterations=iterations)
        assert d.masks.shape == d.mask_logits.shape == (batch, views, num_slots, 16, 18)
        assert d.components.shape == (batch, views, num_slots, 3, 16, 18)
        assert d.slots.shape == d.slot_scale.shape == (batch, views, num_slots, 4)
        torch.testing.assert_close(d.masks.sum(2), torch.ones(batch, views, 16, 18))
        assert d.components.isfinite().all() and not d.components.requires_grad
        assert (d.slots == d.slots[:, :1]).all() and (d.slot_scale == d.slot_scale[:, :1]).all()


def test_views_are_shown_as_the_slots_render_them():
    m, batch = model(), scenes(dtype=torch.float64)
    d = m.decompose(batch["image"][:, :3], batch["viewpoint"][:, :3])
    again = m.render(d.slots[:, 0], batch["viewpoint"][:, :3])
    torch.testing.assert_close(again.components, d.components)
    torch.testing.assert_close(again.mask_logits, d.mask_logits)
    novel = m.render(d.slots[:, 0], batch["viewpoint"][:, 3:], size=(9, 7))
    assert novel.components.shape == (2, 1, 3, 3, 9, 7) and novel.slot_scale is None
    means, masks, _, _ = decode(m, d.slots[:, 0], batch["viewpoint"][:, 1])
    torch.testing.assert_close(d.components[:, 1], means)
    torch.testing.assert_close(d.masks[:, 1], masks)


def test_inference_is_that_of_training():
    """With every view observed in its order, the belief is the one that the plain training loop arrives at."""
    m, batch = model(), scenes(views=2, dtype=torch.float64)
    noises = [torch.randn(6, 4, dtype=torch.float64) for _ in range(6)]

    def observe():
        belief = m.initial_belief.expand(2, 3, -1)
        for image, viewpoint in zip(batch["image"].unbind(1), batch["viewpoint"].unbind(1), strict=True):
            _, belief = view_loss(m, image, viewpoint, belief, belief)
        return belief

    belief = with_noise(noises, observe)
    of_refinements = noises[:2] + noises[3:5]  # the third decode of a view changes no belief
    d = with_noise(of_refinements, lambda: m.decompose(batch["image"], batch["viewpoint"]))
    torch.testing.assert_close(d.slots[:, 0], belief.chunk(2, 2)[0])
    torch.testing.assert_close(d.slot_scale[:, 0].log() * 2, belief.chunk(2, 2)[1])


def test_slots_are_interchangeable_but_for_their_noise():
    m, batch, order = model(), scenes(1, 2, dtype=torch.float64), [2, 0, 1]
    noises = [torch.randn(3, 4, dtype=torch.float64) for _ in range(4)]
    one, other = (
        with_noise(noise, lambda: m.decompose(batch["image"], batch["viewpoint"]))
        for noise in (noises, [noise[order] for noise in noises])
    )
    torch.testing.assert_close(other.components, one.components[:, :, order])


def test_a_scene_is_decomposed_alike_in_any_batch():
    m, batch = model(), scenes(2, 2, dtype=torch.float64)
    noises = [torch.randn(6, 4, dtype=torch.float64) for _ in range(4)]
    together = with_noise(noises, lambda: m.decompose(batch["image"], batch["viewpoint"]))
    first = (batch["image"][:1], batch["viewpoint"][:1])
    alone = with_noise([noise[:3] for noise in noises], lambda: m.decompose(*first))
    torch.testing.assert_close(together.components[:1], alone.components)


def with_noise(noises, function):
    queue = iter(noises)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: next(queue))
        return function()


def test_works_in_inference_mode_and_leaves_no_gradients():
    m, batch = MulMON(**TINY), scenes()
    with torch.inference_mode():
        views = batch["image"] * 1, batch["viewpoint"] * 1  # inference tensors
        d = m.decompose(*views)
        m.render(d.slots[:, 0], views[1])
    assert all(p.grad is None for p in m.parameters())


def test_inference_memory_does_not_grow_with_views_and_iterations(monkeypatch):
    m, batch, alive = MulMON(**TINY), scenes(views=3), []
    original = m._guess

    def guess(*args):
        found = original(*args)
        alive.append(weakref.ref(found.means))
        assert sum(ref() is not None for ref in alive) <= 2
        return found

    monkeypatch.setattr(m, "_guess", guess)
    m.decompose(batch["image"], batch["viewpoint"], iterations=4)
    assert len(alive) == 9


def test_uncertainty_is_the_variance_over_samples_of_the_belief():
    m, batch = model(), scenes(dtype=torch.float64)
    mean = torch.randn(2, 3, 4, dtype=torch.float64)
    torch.manual_seed(1)
    found = m.uncertainty(mean, torch.full_like(mean, 0.5), batch["viewpoint"], samples=4, size=(8, 9))
    torch.manual_seed(1)
    draws = [mean + 0.5 * torch.randn_like(mean) for _ in range(4)]
    pictures = torch.stack([m.render(z, batch["viewpoint"], (8, 9)).reconstruction for z in draws])
    torch.testing.assert_close(found, pictures.var(0).sum(2))
    assert found.shape == (2, 4, 8, 9)
    assert (m.uncertainty(mean, torch.zeros_like(mean), batch["viewpoint"], samples=2) == 0).all()


@pytest.mark.parametrize("options", [{}, {"first_prior": "normal"}], ids=str)
def test_its_posterior_is_the_final_belief_beside_the_first(options):
    m, scene = model(**options), scenes(1, 2, dtype=torch.float64)
    torch.manual_seed(1)
    d = m.decompose(scene["image"], scene["viewpoint"], num_slots=2)
    torch.manual_seed(1)
    posterior = m.posteriors(scene, num_slots=2)["gap"]
    noise = torch.randn(3, *posterior.noise_shape, dtype=torch.float64)
    mean, logvar = m.initial_belief.detach().chunk(2) if not options else torch.zeros(2, 4, dtype=torch.float64)
    for sample, weight in zip(noise, posterior.log_weights(noise), strict=True):
        q = Normal(d.slots[0, 0], d.slot_scale[0, 0])
        z = q.loc + q.scale * sample
        expected = Normal(mean, (0.5 * logvar).exp()).log_prob(z).sum() - q.log_prob(z).sum()
        for image, viewpoint in zip(scene["image"].unbind(1), scene["viewpoint"].unbind(1), strict=True):
            means, masks, _, _ = decode(m, z[None], viewpoint)
            expected += (masks.log().unsqueeze(2) + log_density(m, image, means)).logsumexp(1).sum()
        torch.testing.assert_close(weight, expected)


def test_saved_weights_come_back(tmp_path):
    m, batch = MulMON(**TINY, lds={"weight": 0.5}), scenes()
    m.save_pretrained(tmp_path)
    same = load(tmp_path)
    assert same.lds.weight == 0.5
    slots = torch.randn(2, 3, 4)
    pictures = [model.render(slots, batch["viewpoint"]).reconstruction for model in (m, same)]
    torch.testing.assert_close(*pictures)


def loss(**changes):
    return MulMON(**TINY).loss(scenes() | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MulMON(**TINY).decompose(scenes()["image"]), "MulMON needs the viewpoint of every view of a scene"),
        (lambda: MulMON(**TINY).loss({"image": scenes()["image"]}), "MulMON needs the viewpoint"),
        (lambda: loss(image=torch.rand(2, 3, 16, 18)), r"image must be a float tensor \(B, V, C, H, W\)"),
        (lambda: loss(viewpoint=torch.rand(2, 4, 5)), r"viewpoint has the shape \(2, 4, 5\), not \(2, 4, 3\)"),
        (lambda: loss(viewpoint=torch.rand(2, 3, 3)), r"the shape \(2, 3, 3\), not \(2, 4, 3\): one for each view"),
        (lambda: loss(viewpoint=torch.rand(2, 4, 3) * torch.nan), "viewpoint holds NaN"),
        (lambda: loss(image=scenes(height=18)["image"]), r"image is \(18, 18\) but .* image_size=\(16, 18\)"),
        (lambda: loss(image=scenes()["image"] * 9), r"image must lie within \[0, 1\], found values from"),
        (lambda: MulMON(**TINY).render(torch.rand(2, 3, 9), torch.rand(2, 1, 3)), r"must be \(B, K, 4\)"),
        (lambda: MulMON(**TINY).render(torch.rand(2, 3, 4), torch.rand(2, 2, 5)), r"\(2, 2, 5\), not \(2, Q, 3\)"),
        (
            lambda: MulMON(**TINY).uncertainty(*[torch.zeros(1, 3, 4)] * 2, torch.zeros(1, 2, 3), samples=1),
            "samples is 1; a variance needs at least 2",
        ),
        (lambda: MulMON(image_size=(16, 16)), r"image_size is \(16, 16\), too small for 4 refinement convolutions"),
        (lambda: MulMON(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: MulMON(iterations=0), "iterations is 0; it needs to be above 0"),
        (lambda: MulMON(max_observed=0), "max_observed is 0; it needs to be above 0"),
        (lambda: MulMON(view_noise=-1.0), "view_noise is -1.0 and query_weight 1.0; neither may be below 0"),
        (lambda: check_choices(MulMON, {"kl": "exact"}), "kl is 'exact'; MulMON knows 'sample', 'analytic'"),
        (lambda: MulMON(lds={"weights": 1}), "lds has the option 'weights'"),
        (lambda: MulMON(lds={}, num_slots=1), "lds compares slots, but num_slots is 1; give at least 2 slots"),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
