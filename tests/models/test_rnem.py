"""R-NEM, RNN-EM and N-EM against the equations, their parameter counts, streams, freedom of K, refusals."""

import weakref

import pytest
import torch
import torch.nn.functional as F

from unscene import NEM, RNEM, InputError
from unscene.models import rnem
from unscene.models.base import check_choices
from unscene.nn.normed import DoublingConv

TINY = {
    "num_slots": 3,
    "latent_size": 6,
    "attention_size": 4,
    "encoder_channels": (3, 5),
    "hidden_size": 7,
    "image_size": (8, 12),
}
TINY_NEM = {"num_slots": 3, "iterations": 4, "latent_size": 5, "image_size": (6, 7)}


def videos(batch=2, frames=5, channels=1, size=(8, 12), dtype=torch.float32):
    noise = torch.rand(batch, frames, channels, *size, generator=torch.Generator().manual_seed(0))
    return (noise < 0.4).to(dtype)


def shaken(model):
    """In float64 and away from zero biases, so that every term matters."""
    torch.manual_seed(7)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


# ---- the equations, pair by pair and pixel by pixel ----------------------------------------------------------------


def normalise(x, layer):
    """LayerNorm over all axes but the batch; gain and bias belong to the channel, axis 1."""
    axes = tuple(range(1, x.ndim))
    x = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-12).sqrt()
    shape = (1, -1, *[1] * (x.ndim - 2))
    return x * layer.weight.view(shape) + layer.bias.view(shape)


def dense(x, block, activation):
    return activation(normalise(F.linear(x, block[0].weight, block[0].bias), block[1]))


def plain_encoder(encoder, x):
    for conv, norm in zip(encoder.convs, encoder.norms, strict=True):
        x = F.elu(normalise(F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1), norm))
    return dense(x.movedim(1, 3).flatten(1), encoder.hidden, F.elu)


def plain_decoder(decoder, x):
    x = dense(dense(x, decoder.hidden, torch.relu), decoder.features, torch.relu)
    x = x.view(-1, *decoder.small).movedim(3, 1)
    for i, conv in enumerate(decoder.convs):
        x = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 2, 1, 2))
        x = F.conv2d(x, conv.weight, conv.bias)
        if i < len(decoder.norms):
            x = torch.relu(normalise(x, decoder.norms[i]))
    return x.sigmoid()


def plain_context(interaction, thetas):
    """[own embedding; sum over the others of gate times effect] for every slot of a list of (B, D)."""
    own = [dense(theta, interaction.embedding, torch.relu) for theta in thetas]
    out = []
    for k, focus in enumerate(own):
        total = torch.zeros_like(focus)
        for i, context in enumerate(own):
            if i != k:
                pair = F.linear(torch.cat([focus, context], 1), interaction.pair.weight, interaction.pair.bias)
                pair = torch.relu(normalise(pair, interaction.pair_norm))
                effect = dense(pair, interaction.effect, torch.relu)
                if interaction.attention is not None:
                    hidden, gate = dense(pair, interaction.attention[0], torch.tanh), interaction.attention[1]
                    effect = F.linear(hidden, gate.weight, gate.bias).sigmoid() * effect
                total = total + effect
        out.append(torch.cat([focus, total], 1))
    return out


def e_step(x, means):
    p = [x * mu + (1 - x) * (1 - mu) + 1e-6 for mu in means]
    return [each / sum(p) for each in p]


def plain_pixels(means, gammas, x):
    """Intra and inter loss per image, from the probabilities."""
    intra = inter = 0.0
    for mu, gamma in zip(means, gammas, strict=True):
        mu = mu.clamp(1e-6, 1 - 1e-6)
        kl = torch.distributions.kl_divergence(
            torch.distributions.Bernoulli(torch.zeros_like(mu)), torch.distributions.Bernoulli(mu)
        )
        intra = intra + (gamma * F.binary_cross_entropy(mu, x, reduction="none")).sum() / len(x)
        inter = inter + ((1 - gamma) * kl).sum() / len(x)
    return intra, inter


def flip(x, p):
    n = (torch.rand_like(x) < p).to(x.dtype)
    return x + n - 2 * x * n


def initial_gammas(x, k):
    gamma = torch.randn(len(x), k, *x.shape[1:], dtype=x.dtype).abs()
    return list((gamma / gamma.sum(1, keepdim=True)).unbind(1))


def plain_rnem(model, video, k):
    """Slots, means and responsibilities, lists over k, after every frame but the last."""
    gammas = initial_gammas(video[:, 0], k)
    means = [torch.zeros_like(video[:, 0])] * k
    thetas = [torch.zeros(len(video), model.latent_size, dtype=video.dtype)] * k
    for t in range(video.shape[1] - 1):
        x = flip(video[:, t], model.noise)
        seen = [plain_encoder(model.encoder, g.detach() * (x - mu)) for g, mu in zip(gammas, means, strict=True)]
        context = thetas if model.interaction is None else plain_context(model.interaction, thetas)
        a = [model.recurrent(torch.cat([c, u], 1)) for c, u in zip(context, seen, strict=True)]
        thetas = [each.sigmoid() for each in a]
        means = [plain_decoder(model.decoder, normalise(each, model.code_norm).sigmoid()) for each in a]
        gammas = [gamma.detach() for gamma in e_step(video[:, t + 1], means)]
        yield thetas, means, gammas


def plain_rnem_loss(model, video, k):
    total = 0.0
    for t, (_, means, gammas) in enumerate(plain_rnem(model, video, k)):
        intra, inter = plain_pixels(means, gammas, video[:, t + 1])
        total = total + intra + model.inter_weight * inter
    return total / (video.shape[1] - 1)


def plain_nem_loss(model, image, k):
    gammas, means = initial_gammas(image, k), [torch.zeros_like(image)] * k
    s = [torch.zeros(len(image), model.weight.shape[1], dtype=image.dtype)] * k
    for _ in range(model.iterations):
        x = flip(image, model.noise)
        for j in range(k):
            gradient = (gammas[j] * (x - means[j])).flatten(1) @ model.weight
            s[j] = s[j] + model.rate * s[j].sigmoid() * (1 - s[j].sigmoid()) * gradient
            means[j] = (s[j].sigmoid() @ model.weight.T).sigmoid().view_as(x)
        gammas = e_step(image, means)
    intra, inter = plain_pixels(means, gammas, image)
    return intra + model.inter_weight * inter


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interaction": "sum", "inter_weight": 0.3},
        {"interaction": "none"},
        {"interaction": "none", "num_slots": 1},
        {"num_slots": 1},
        {"recompute": True},
    ],
    ids=str,
)
def test_equals_the_equations_in_values_and_gradients(options):
    model, video = shaken(RNEM(**(TINY | options))), videos(dtype=torch.float64)
    torch.manual_seed(1)
    fast = model.loss({"image": video})
    torch.manual_seed(1)
    plain = plain_rnem_loss(model, video, model.num_slots)
    compare(model, fast, plain)


@pytest.mark.parametrize("options", [{}, {"num_slots": 1, "inter_weight": 0.3}], ids=str)
def test_nem_equals_the_equations_in_values_and_gradients(options):
    model, image = shaken(NEM(**(TINY_NEM | options))), videos(size=(6, 7), dtype=torch.float64)[:, 0]
    torch.manual_seed(1)
    fast = model.loss({"image": image})
    torch.manual_seed(1)
    compare(model, fast, plain_nem_loss(model, image, model.num_slots))


def compare(model, losses, plain):
    torch.testing.assert_close(losses.total, plain, rtol=1e-10, atol=0)
    weighted = losses.terms["intra"] + model.inter_weight * losses.terms["inter"]
    torch.testing.assert_close(weighted, plain.detach(), rtol=1e-10, atol=0)
    assert not any(term.requires_grad for term in losses.terms.values())
    parameters = dict(model.named_parameters())
    unused = model.num_slots == 1  # then no pair is there to be computed
    mine = torch.autograd.grad(losses.total, parameters.values(), allow_unused=unused)
    theirs = torch.autograd.grad(plain, parameters.values(), allow_unused=unused)
    for name, one, other in zip(parameters, mine, theirs, strict=True):
        one, other = (torch.zeros_like(parameters[name]) if g is None else g for g in (one, other))
        scale = other.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-8, msg=name)


def test_upsampling_is_folded_exactly():
    layer, x = DoublingConv(3, 5).double(), torch.randn(2, 3, 4, 7, dtype=torch.float64)
    plain = F.conv2d(F.pad(F.interpolate(x, scale_factor=2), (1, 2, 1, 2)), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x, layer.prepare()), plain)


def test_loss_outside_a_share_is_the_kl_to_black_and_means_are_clipped():
    logits = torch.tensor([-40.0, -3.0, 0.0, 2.0, 40.0], dtype=torch.float64).view(1, 1, 1, 1, 5)
    mu = logits.sigmoid().clamp(1e-6, 1 - 1e-6)
    nothing, target = torch.zeros_like(logits), torch.tensor([1.0, 0, 1, 1, 0], dtype=torch.float64).view(1, 1, 1, 5)
    intra, inter = rnem.em_losses(logits, target, nothing)
    assert intra == 0
    torch.testing.assert_close(inter, -(1 - mu).log().sum())
    intra, inter = rnem.em_losses(logits, target, nothing + 1)
    assert inter == 0
    torch.testing.assert_close(intra, F.binary_cross_entropy(mu[0], target, reduction="sum"))


def test_gradients_stop_at_responsibilities_but_not_at_predictions():
    model, video = shaken(RNEM(**TINY)), videos(dtype=torch.float64)
    state = rnem.start(video[:, 0], 3, 6)
    state = state._replace(means=torch.rand_like(state.means).requires_grad_())
    new, *_ = model._step(video[:, 0], video[:, 1], state, model.decoder.prepare())
    assert new.means.requires_grad and new.theta.requires_grad and not new.gamma.requires_grad
    assert torch.autograd.grad(new.means.sum(), state.means)[0].abs().sum() > 0
    nem, image = shaken(NEM(**TINY_NEM)), videos(size=(6, 7), dtype=torch.float64)[:, 0]
    assert nem._infer(image, 3, 2)[1].gamma.requires_grad  # through those of a static image they flow


def test_every_parameter_learns():
    for model, image in ((RNEM(**TINY), videos()), (NEM(**TINY_NEM), videos(size=(6, 7))[:, 0])):
        shaken(model).loss({"image": image}).total.backward()
        assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_parameter_counts_are_the_papers():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    model = RNEM()
    assert count(model.encoder) == 2_140_240
    assert count(model.interaction) + count(model.recurrent) == 530_901
    assert count(model.decoder) == 2_280_337
    assert count(model) == 4_951_978
    assert count(RNEM(interaction="none")) == 4_611_827
    assert count(NEM()) == 784 * 250 + 1


# ---- decomposing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "frames", "num_slots"), [(1, 1, 1), (2, 4, 2), (1, 3, 9)])
def test_decomposes_any_number_of_frames_with_any_number_of_slots(batch, frames, num_slots):
    d = RNEM(**TINY).decompose(videos(batch, frames), num_slots=num_slots)
    assert d.masks.shape == (batch, frames, num_slots, 8, 12)
    assert d.components.shape == (batch, frames, num_slots, 1, 8, 12)
    assert d.slots.shape == (batch, frames, num_slots, 6)
    torch.testing.assert_close(d.masks.sum(2), torch.ones(batch, frames, 8, 12))
    assert d.components.isfinite().all() and not d.components.requires_grad
    assert (d.components[:, 0] == 0).all() and (d.slots[:, 0] == 0).all()  # nothing is known of the first frame


def test_nem_decomposes_with_any_number_of_slots_and_iterations():
    for num_slots, iterations in ((1, 1), (5, 3)):
        d = NEM(**TINY_NEM).decompose(videos(size=(6, 7))[:, 0], num_slots=num_slots, iterations=iterations)
        assert d.masks.shape == (2, num_slots, 6, 7) and d.slots.shape == (2, num_slots, 5)
        assert d.components.shape == (2, num_slots, 1, 6, 7)
        torch.testing.assert_close(d.masks.sum(1), torch.ones(2, 6, 7))


@pytest.mark.parametrize("num_slots", [3, 4])
def test_decomposition_of_a_frame_is_what_the_frame_before_predicted_of_it(num_slots):
    model, video = shaken(RNEM(**TINY)), videos(dtype=torch.float64)
    torch.manual_seed(1)
    d = model.decompose(video, num_slots=num_slots)
    torch.manual_seed(1)
    for t, (slots, means, gammas) in enumerate(plain_rnem(model, video, num_slots), start=1):
        torch.testing.assert_close(d.slots[:, t], torch.stack(slots, 1).detach())
        torch.testing.assert_close(d.components[:, t], torch.stack(means, 1).detach())
        torch.testing.assert_close(d.masks[:, t].unsqueeze(2), torch.stack(gammas, 1))


def test_a_stream_equals_decompose_and_goes_on_as_predict_does():
    model, video = RNEM(**TINY), videos()
    torch.manual_seed(3)
    together = model.decompose(video)
    torch.manual_seed(3)
    streamed = list(model.stream(video.unbind(1), horizon=4))
    torch.manual_seed(3)
    predicted = model.predict(video, 4)
    assert len(streamed) == 9 and predicted.masks.shape == (2, 4, 3, 8, 12)
    for t in range(5):
        assert torch.equal(streamed[t].masks, together.masks[:, t])
        assert torch.equal(streamed[t].components, together.components[:, t])
    for t in range(4):
        assert torch.equal(streamed[5 + t].slots, predicted.slots[:, t])


def test_a_predicted_frame_is_thresholded_for_the_e_step_and_goes_in_soft():
    model = shaken(RNEM(**TINY, noise=0.0))
    with torch.no_grad():
        model.decoder.convs[-1].bias -= 2.0  # so that means lie on both sides of the threshold
    *_, last, first, second = model.stream(videos(dtype=torch.float64).unbind(1), horizon=2)
    mu = list(first.components.unbind(1))
    frame = (torch.stack(mu).amax(0) > 0.1).double()
    assert 0 < frame.mean() < 1
    torch.testing.assert_close(first.masks.unsqueeze(2), torch.stack(e_step(frame, mu), 1))
    torch.testing.assert_close(second.slots, one_step(model, first, first.reconstruction))
    torch.testing.assert_close(first.slots, one_step(model, last, videos(dtype=torch.float64)[:, -1]))


def one_step(model, d, frame):
    state = rnem.State(d.slots, d.components, d.masks.unsqueeze(2))
    with torch.no_grad():
        return model._m_step(frame, state, model.decoder.prepare())[0]


def test_slots_are_interchangeable():
    """With the initial responsibilities permuted, the slots are permuted: no parameter knows which slot it serves."""
    model, video, order = shaken(RNEM(**TINY, noise=0.0)), videos(dtype=torch.float64), [2, 0, 1]
    kernels, begin = model.decoder.prepare(), rnem.start(video[:, 0], 3, 6)
    states = [begin, begin._replace(gamma=begin.gamma[:, order])]
    for t in range(4):
        states = [model._advance(video[:, t], video[:, t + 1], state, kernels) for state in states]
    assert (states[0].theta[:, 0] - states[0].theta[:, 1]).abs().max() > 1e-3
    for name in rnem.State._fields:
        torch.testing.assert_close(getattr(states[1], name), getattr(states[0], name)[:, order])


def test_own_scores_hold_the_loss_of_training():
    model, video = shaken(RNEM(**TINY, inter_weight=0.3)), videos(dtype=torch.float64)
    torch.manual_seed(1)
    total, terms = model.loss({"image": video})
    torch.manual_seed(1)
    frames = [{"image": frame} for frame in video.unbind(1)]
    said = list(model.stream(video.unbind(1)))
    assert model.own_scores(frames[0], said[0]) == {}
    steps = [model.own_scores(frames[t], said[t], frames[t - 1]) for t in range(1, 5)]
    for name, expected in {"loss": total.detach(), **terms}.items():
        torch.testing.assert_close(torch.stack([step[name] for step in steps]).mean(), expected, msg=name)
    nem, image = shaken(NEM(**TINY_NEM, inter_weight=0.3)), videos(size=(6, 7), dtype=torch.float64)[:, 0]
    torch.manual_seed(1)
    expected = nem.loss({"image": image}).total.detach()
    torch.manual_seed(1)
    torch.testing.assert_close(nem.own_scores({"image": image}, nem.decompose(image))["loss"].mean(), expected)


def test_a_stream_keeps_no_graph_and_leaves_the_callers_gradients_on():
    for d in RNEM(**TINY).stream(videos().unbind(1), horizon=2):
        assert torch.is_grad_enabled()
        assert not any(x.requires_grad for x in (d.masks, d.components, d.slots, d.reconstruction))


def test_bits_flip_as_often_as_asked():
    torch.manual_seed(0)
    image = videos(4, 1, size=(64, 64))[:, 0]
    changed = (rnem.flip_bits(image, 0.2) - image).abs()
    assert set(changed.unique().tolist()) == {0.0, 1.0}
    assert abs(changed.mean() - 0.2) < 0.01
    assert torch.equal(rnem.flip_bits(image, 0.0), image)


def test_memory_does_not_grow_with_the_stream():
    model, means = RNEM(**TINY), []
    with torch.inference_mode():
        for d in model.stream(videos(1, 8).unbind(1), horizon=4):
            means.append(weakref.ref(d.components))
            assert sum(ref() is not None for ref in means) <= 2
    assert len(means) == 12


def test_bfloat16_convolutions_stay_close_to_float32():
    for model, image in ((RNEM(**TINY), videos()), (NEM(**TINY_NEM), videos(size=(6, 7))[:, 0])):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            fast = model.loss({"image": image}).total
            fast.backward()
            assert model.decompose(image).masks.dtype == torch.float32
        torch.manual_seed(1)
        torch.testing.assert_close(fast, model.loss({"image": image}).total, rtol=0.02, atol=0)
        assert fast.dtype == torch.float32


def test_weights_come_back(tmp_path):
    for model, image in ((RNEM(**TINY), videos()), (NEM(**TINY_NEM), videos(size=(6, 7))[:, 0])):
        model.save_pretrained(tmp_path)
        torch.manual_seed(0)
        ours = model.decompose(image)
        again = type(model).from_pretrained(tmp_path)
        torch.manual_seed(0)
        assert torch.equal(again.decompose(image).masks, ours.masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RNEM(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: NEM(iterations=0), "iterations is 0; it needs to be above 0"),
        (lambda: RNEM(noise=1.2), "noise is 1.2; it is the probability that a pixel flips"),
        (lambda: NEM(inter_weight=-1.0), "inter_weight is -1.0; it must not be negative"),
        (
            lambda: check_choices(RNEM, {"interaction": "all"}),
            "interaction is 'all'; RNEM knows 'attention', 'sum', 'none'",
        ),
        (lambda: RNEM(image_size=(64, 36)), r"\(64, 36\); 3 convolutions halve it.*multiples of 8"),
        (lambda: NEM(image_size=(28,)), "give height and width"),
        (lambda: RNEM(**TINY).decompose(videos(), num_slots=0), "num_slots is 0"),
        (lambda: NEM(**TINY_NEM).decompose(videos(size=(6, 7))[:, 0], iterations=0), "iterations is 0"),
        (lambda: RNEM(**TINY).decompose(videos(channels=3)), "frame has 3 channels, but this method takes binary"),
        (lambda: RNEM(**TINY).loss({"image": videos() * 2}), r"video must lie within \[0, 1\]"),
        (lambda: RNEM(**TINY).loss({"image": videos()[:, 0]}), r"video must be a float tensor \(B, T, C, H, W\)"),
        (lambda: RNEM(**TINY).loss({"image": videos(frames=1)}), "video has 1 frame, .* give at least 2 frames"),
        (lambda: RNEM(**TINY).decompose(videos(size=(12, 8))), r"\(12, 8\) but this model was built for image_size="),
        (lambda: NEM(**TINY_NEM).loss({"image": videos()[:, 0]}), r"\(8, 12\) but this model was built for"),
        (lambda: RNEM(**TINY).predict(videos(), 0), "horizon is 0"),
        (lambda: list(RNEM(**TINY).stream([], horizon=2)), "no frame to predict from"),
        (lambda: list(RNEM(**TINY).stream([videos(2)[:, 0], videos(3)[:, 0]])), "frame holds 3 videos, .* before 2"),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
