"""EfficientMORL against the equations, its parameter counts, its freedom of shapes, its refusals."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

import unscene
from plain_efficient_morl import decode, efficient_morl_loss, iterate, log_density
from unscene import EfficientMORL, InputError, recipes
from unscene.models.base import check_choices

TINY = {
    "num_slots": 3,
    "iterations": 2,
    "early_iterations": None,
    "latent_size": 4,
    "encoder_channels": (4, 5),
    "decoder_channels": (6, 5),
    "hidden": 7,
    "geco_goal": None,
}
PADS = [0, 0, 0]  # of TINY's decoder
TETROMINOES = {"decoder_padding": 1, "decoder_activation": "relu", "kernel_size": 5, "event": "mean"}


def images(batch=2, channels=3, height=9, width=8, dtype=torch.float32):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def shaken(**options):
    """A model in float64 with all parameters away from their symmetric start, so that every term matters."""
    torch.manual_seed(0)
    model = EfficientMORL(**(TINY | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({}, {}),
        ({"layers": 2, "event": "pixel"}, {}),
        ({"layers": 1, "iterations": 0}, {"iterations": 0}),
        ({"loss_weights": "code", "iterations": 1}, {"iterations": 1, "extra": 3}),
        (TETROMINOES, {"pads": [1, 1, 1], "activation": F.relu}),
        ({"decoder_padding": None, "encoder_strides": (2, 1)}, {"pads": [1, 1, 1]}),
        ({"image_channels": 1, "num_slots": 2, "likelihood_scale": 0.3}, {}),
    ],
)
def test_equals_the_equations_in_values_and_gradients(options, reference):
    model = shaken(**options)
    known = {"layers": 3, "event": "channel", "likelihood_scale": 0.1} | options  # the textbook reads them of the model
    assert [model.layers, model.event, model.likelihood.scale] == [known[name] for name in list(known)[:3]]
    image = images(channels=model.image_channels, dtype=torch.float64)
    torch.manual_seed(1)
    fast = model.loss({"image": image})
    torch.manual_seed(1)
    plain, terms = efficient_morl_loss(model, image, **({"iterations": 2, "pads": PADS} | reference))
    torch.testing.assert_close(fast.total, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fast.terms["nll"], terms[-1][0].mean().detach())
    torch.testing.assert_close(fast.terms["kl"], terms[-1][1].mean().detach())
    named = dict(model.named_parameters())
    expected = torch.autograd.grad(plain, named.values(), allow_unused=True)
    fast.total.backward()
    for (name, parameter), gradient in zip(named.items(), expected, strict=True):
        unused = name.startswith("refinement") if len(terms) == 1 else False
        unused = unused or (name.startswith("prior") and options.get("layers") == 1)
        assert (gradient is None) == unused, name
        if not unused:
            scale = gradient.abs().max().clamp(min=1e-3)
            torch.testing.assert_close(parameter.grad / scale, gradient / scale, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("iterations", [0, 2])
def test_decomposes_as_the_equations_say(iterations):
    model, image = shaken(), images(dtype=torch.float64)
    torch.manual_seed(1)
    d = model.decompose(image, iterations=iterations)
    torch.manual_seed(1)
    _, _, z, means, masks = iterate(model, image, iterations, PADS, sample_last=False)[-1]
    torch.testing.assert_close(d.slots, z.detach())
    torch.testing.assert_close(d.components, means.detach())
    torch.testing.assert_close(d.masks, masks.squeeze(2).detach())


def test_geco_weighs_the_error_of_all_iterations():
    goal = -1.0
    model, image = shaken(geco_goal=goal), images(dtype=torch.float64)
    before, weights = model.geco.zeta.item(), [1, 2 / 3, 1 / 3]
    torch.manual_seed(1)
    fast = model.loss({"image": image}, step=5000)
    torch.manual_seed(1)
    terms = iterate(model, image, 2, PADS)
    excess = [nll.mean() - 0.5 * math.log(2 * math.pi) * 3 * 9 * 8 - goal * 3 * 9 * 8 for nll, *_ in terms]
    factor = math.log1p(math.exp(before))
    plain = sum(w * (kl.mean() + factor * e) for w, e, (_, kl, *_) in zip(weights, excess, terms, strict=True))
    torch.testing.assert_close(fast.total, plain)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(plain, parameters)
    torch.testing.assert_close(torch.autograd.grad(fast.total, parameters), expected, rtol=1e-7, atol=1e-9)
    average = (sum(w * e for w, e in zip(weights, excess, strict=True)) / 2).item()
    assert average > 0  # so that the error gains weight
    assert model.geco.zeta.item() == pytest.approx(before + 1e-6 * average)
    assert fast.terms["error_weight"].item() == pytest.approx(math.log1p(math.exp(before + 1e-6 * average)))


def test_geco_begins_with_the_plain_elbo():
    with_goal, without = shaken(geco_goal=-1.0), shaken()
    totals = []
    for model in (with_goal, without):
        torch.manual_seed(1)
        total = model.loss({"image": images(dtype=torch.float64)}, step=999).total
        totals.append(torch.autograd.grad(total, model.initial_posterior)[0])
    torch.testing.assert_close(*totals)


@pytest.mark.parametrize(("options", "early", "late"), [({"early_iterations": 3, "early_steps": 10}, 3, 2), ({}, 2, 2)])
def test_refines_more_often_early_in_training(options, early, late):
    model, calls = EfficientMORL(**(TINY | options)), []
    model.refinement.register_forward_hook(lambda *_: calls.append(1))
    for step, expected in ((0, early), (9, early), (10, late)):
        calls.clear()
        model.loss({"image": images()}, step)
        assert len(calls) == expected
    calls.clear()
    model.decompose(images())
    assert len(calls) == late


@pytest.mark.parametrize(
    ("lds", "weights"), [({"weight": 2.0}, [2, 4 / 3, 2 / 3]), ({"iterations": "last"}, [0, 0, 1 / 3])]
)
def test_lds_looks_at_the_samples_of_every_iteration(lds, weights):
    with_lds, without, image = shaken(lds=lds), shaken(), images(dtype=torch.float64)
    torch.manual_seed(1)
    losses = with_lds.loss({"image": image})
    torch.manual_seed(1)
    plain = without.loss({"image": image}).total
    torch.manual_seed(1)
    penalties = [with_lds.lds(z).mean() for _, _, z, *_ in iterate(without, image, 2, PADS)]
    torch.testing.assert_close(losses.total, plain + sum(w * p for w, p in zip(weights, penalties, strict=True)))
    torch.testing.assert_close(losses.terms["lds"], penalties[-1].detach())


def test_lds_changes_inference_only_on_request():
    slots = []
    for lds in (None, {"weight": 100.0}, {"weight": 100.0, "in_refinement": True}):
        torch.manual_seed(1)
        slots.append(shaken(lds=lds).decompose(images(dtype=torch.float64)).slots)
    torch.testing.assert_close(slots[0], slots[1])
    assert (slots[0] - slots[2]).abs().max() > 1e-3


def test_parameter_counts():
    """The paper says 666k, without naming the dataset."""
    assert count(EfficientMORL()) == 666_884
    names = ("clevr6", "multi_dsprites", "tetrominoes")
    counts = [count(recipes.build_model(f"efficientmorl/{name}")) for name in names]
    assert counts == [666_884, 666_884, 467_492]


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", [{}, TETROMINOES, {"decoder_padding": None, "decoder_strides": (1, 2, 1)}], ids=str)
@pytest.mark.parametrize(("num_slots", "iterations"), [(1, 2), (5, 0)])
def test_decomposes_any_shape_with_any_number_of_slots(options, num_slots, iterations):
    model = EfficientMORL(**(TINY | options))
    for batch, height, width in [(1, 9, 16), (3, 3, 2)]:
        d = model.decompose(images(batch, 3, height, width), num_slots=num_slots, iterations=iterations)
        assert d.masks.shape == (batch, num_slots, height, width)
        assert d.components.shape == (batch, num_slots, 3, height, width)
        assert d.slots.shape == d.slot_scale.shape == (batch, num_slots, 4)
        torch.testing.assert_close(d.masks.sum(1), torch.ones(batch, height, width))
        assert d.components.isfinite().all() and not d.components.requires_grad


def test_last_decode_is_that_of_the_slots():
    model, image = EfficientMORL(**TINY), images()
    d = model.decompose(image)
    means, logits = model.decode(d.slots, (9, 8))
    torch.testing.assert_close(means.detach(), d.components)
    torch.testing.assert_close(logits.detach(), d.mask_logits)


def test_the_inference_gap_weighs_samples_of_the_last_posterior():
    model, image, noise = shaken(), images(1, dtype=torch.float64), torch.randn(4, 3, 4, dtype=torch.float64)
    torch.manual_seed(1)
    weights = model.posteriors({"image": image}, iterations=1)["gap"].log_weights(noise)
    torch.manual_seed(1)
    d = model.decompose(image, iterations=1)
    q = Normal(d.slots, d.slot_scale)
    z = q.mean + q.stddev * noise
    density = log_density(model, image.expand(4, -1, -1, -1), *decode(model, z, 9, 8, PADS))
    expected = density + (Normal(torch.zeros(()).double(), 1).log_prob(z) - q.log_prob(z)).sum((1, 2))
    torch.testing.assert_close(weights.detach(), expected.detach())


def test_history_holds_every_decode_and_changes_nothing():
    model, image = EfficientMORL(**TINY), images()
    torch.manual_seed(0)
    with_history = model.decompose(image, iterations=3, history=True)
    torch.manual_seed(0)
    without = model.decompose(image, iterations=3)
    assert len(with_history.history) == 4 and without.history == ()
    torch.testing.assert_close(with_history.components, without.components)
    torch.testing.assert_close(with_history.history[-1].masks, with_history.masks)


@pytest.mark.parametrize("event", ["pixel", "channel", "mean"])
def test_works_in_inference_mode_and_leaves_no_gradients(event):
    model = EfficientMORL(**TINY, event=event)
    with torch.inference_mode():
        model.decompose(images())
    with torch.no_grad():  # a validation
        assert not model.loss({"image": images()}).total.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_inference_memory_does_not_grow_and_the_last_decode_needs_no_graph():
    model, image, means = EfficientMORL(**TINY), images(), []
    with torch.no_grad():
        for guess in model._guesses(image, model._bottom_up(image, 3), 6):
            means.append(weakref.ref(guess.means))
            assert sum(ref() is not None for ref in means) <= 2
    assert guess.means.grad_fn is None


def test_slots_are_interchangeable_but_for_their_noise():
    model, image, order = shaken(), images(1, dtype=torch.float64), [2, 0, 1]
    noises = [torch.randn(1, 3, 4, dtype=torch.float64) for _ in range(6)]
    permuted = with_noise([noise[:, order] for noise in noises], model, image)
    torch.testing.assert_close(permuted.components, with_noise(noises, model, image).components[:, order])


def test_an_image_is_decomposed_alike_in_any_batch():
    model, image = shaken(), images(4, dtype=torch.float64)
    noises = [torch.randn(4, 3, 4, dtype=torch.float64) for _ in range(6)]
    together, alone = with_noise(noises, model, image), with_noise([noise[:1] for noise in noises], model, image[:1])
    assert (together.components[0] - together.components[1]).abs().max() > 1e-3
    torch.testing.assert_close(together.components[:1], alone.components)


def with_noise(noises, model, image):
    queue = iter(noises)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: next(queue))
        return model.decompose(image, iterations=2)


def test_bfloat16_convolutions_stay_close_to_float32():
    model = EfficientMORL(**TINY)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.loss({"image": images()}).total
    torch.manual_seed(1)
    torch.testing.assert_close(fast, model.loss({"image": images()}).total, rtol=0.02, atol=0)
    assert fast.dtype == torch.float32


def test_weights_come_back_and_with_them_geco(tmp_path):
    model = EfficientMORL(**(TINY | {"geco_goal": -1.0}))
    model.loss({"image": images()}, 5000)
    model.save_pretrained(tmp_path)
    loaded = unscene.load(tmp_path)
    assert type(loaded) is EfficientMORL and loaded.geco.zeta == model.geco.zeta > 0.55


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EfficientMORL(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: EfficientMORL(layers=0), "layers is 0; it needs to be above 0"),
        (lambda: EfficientMORL(iterations=-1), r"iterations is -1; it must be 0 \(no refinement\) or more"),
        (lambda: EfficientMORL(early_iterations=-1), "early_iterations is -1; it must be 0"),
        (lambda: EfficientMORL(kernel_size=4), "kernel_size is 4; it must be odd"),
        (
            lambda: check_choices(EfficientMORL, {"event": "image"}),
            "event is 'image'; EfficientMORL knows 'pixel', 'channel', 'mean'",
        ),
        (lambda: EfficientMORL(encoder_strides=(1, 2)), r"encoder_strides is \(1, 2\); give 4, as encoder_channels"),
        (lambda: EfficientMORL(decoder_strides=(1, 1, 1, 2, 1)), "decoder_strides needs a decoder that keeps the size"),
        (lambda: EfficientMORL(decoder_padding=2), "decoder_padding is 2; the last convolution, of size 3, allows"),
        (lambda: EfficientMORL(lds={"wait": 1}), "lds has the option 'wait'; it knows weight"),
        (lambda: EfficientMORL(**TINY).decompose(images(), num_slots=0), "num_slots is 0"),
        (lambda: EfficientMORL(**TINY).decompose(images(), iterations=-1), "iterations is -1"),
        (lambda: EfficientMORL(**TINY).decompose(images(channels=1)), "image has 1 channels but the model was built"),
        (lambda: EfficientMORL(**TINY).loss({"image": images() * 255}), "scale it before calling the model"),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
