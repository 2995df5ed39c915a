"""GENESIS against the textbook version, its parameter counts, the anchors of its masks, generation, refusals."""

import pytest
import torch

from plain_genesis import autoregressive_prior, genesis_loss
from unscene import Genesis, InputError
from unscene.models.base import check_choices
from unscene.models.genesis import stick_breaking, usual_strides

SIZE = (11, 14)
TINY = {
    "image_size": SIZE,
    "num_slots": 3,
    "mask_latent_size": 5,
    "latent_size": 4,
    "mask_encoder_channels": (3, 4),
    "mask_decoder_channels": (4, 3),
    "mask_strides": (1, 2),
    "code_size": 6,
    "posterior_size": 7,
    "prior_size": 8,
    "encoder_channels": (3, 4),
    "decoder_channels": (5, 4),
}


def images(batch=2, channels=3, size=SIZE, dtype=torch.float32):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def trained(**options):
    """A model in float64 that is away from its start, so that every term matters."""
    torch.manual_seed(0)
    model = Genesis(**(TINY | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("options", [{}, {"two_stage": False}, {"num_slots": 2, "mask_strides": (2, 2)}], ids=str)
def test_equals_the_textbook_in_values_and_gradients(options):
    model, image = trained(**options), images(dtype=torch.float64)
    torch.manual_seed(1)
    fast = model.loss({"image": image}).total
    torch.manual_seed(1)
    noise = torch.randn(2, model.num_slots, sum(model.sizes), dtype=torch.float64)
    plain = genesis_loss(model, image, noise)
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)
    parameters = dict(model.named_parameters())
    fast, plain = (torch.autograd.grad(loss, parameters.values()) for loss in (fast, plain))
    for name, mine, textbook in zip(parameters, fast, plain, strict=True):
        scale = textbook.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(mine / scale, textbook / scale, rtol=1e-6, atol=1e-7, msg=name)


def test_bfloat16_convolutions_stay_close_to_float32():
    torch.manual_seed(0)
    model = Genesis(**TINY)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.loss({"image": images()})
    model.geco.beta.fill_(1)
    torch.manual_seed(1)
    precise = model.loss({"image": images()})
    torch.testing.assert_close(fast.total, precise.total, rtol=0.01, atol=0)
    assert fast.total.dtype == fast.terms["kl_mask"].dtype == torch.float32


def test_parameter_counts_at_64_pixels():
    model = Genesis()
    parts = {
        "mask encoder": (8_991_552, [model.mask_encoder, model.first_posterior]),
        "mask decoder": (2_559_265, [model.mask_decoder]),
        "posterior RNN": (246_912, [model.next_posterior, model.next_posterior_out]),
        "component": (369_539, [model.component_encoder, model.decoder]),
        "priors": (453_280, [model.mask_prior, model.component_prior]),
    }
    count = {name: sum(p.numel() for part in of for p in part.parameters()) for name, (_, of) in parts.items()}
    assert count == {name: number for name, (number, _) in parts.items()}
    assert sum(p.numel() for p in model.parameters()) == 12_620_548


def test_masks_of_any_logits_sum_to_one():
    logits = torch.tensor([0.0, 50, -50, 1, 50, 50, -50, -50]).view(2, 4, 1, 1).expand(2, 4, 3, 2)
    log_masks = stick_breaking(logits)
    assert log_masks.shape == (2, 5, 3, 2) and log_masks.isfinite().all()
    torch.testing.assert_close(log_masks.exp().sum(1), torch.ones(2, 3, 2), rtol=0, atol=1e-4)
    half = stick_breaking(torch.zeros(1, 2, 1, 1)).exp().flatten()
    torch.testing.assert_close(half, torch.tensor([0.5, 0.25, 0.25]))


@pytest.mark.parametrize(
    ("size", "strides"),
    [(32, (1, 2, 1, 2, 1)), (35, (1, 2, 1, 2, 1)), (64, (1, 2, 1, 2, 1)), (128, (2, 2, 2, 1, 1))]
    + [(192, (2, 2, 2, 2, 1)), (256, (2, 2, 2, 2, 1)), (300, (2, 2, 2, 2, 1))],
)
def test_strides_are_those_of_the_paper(size, strides):
    assert usual_strides((size, size)) == strides


@pytest.mark.parametrize(("size", "smallest"), [((32, 32), (8, 8)), ((35, 35), (9, 9)), ((64, 40), (16, 10))])
def test_any_image_size_has_a_last_map_of_its_own(size, smallest):
    options = {"mask_encoder_channels": [2] * 5, "mask_decoder_channels": [2] * 5, "mask_strides": None}
    model = Genesis(**(TINY | options | {"image_size": size}))
    assert model.mask_decoder.convs[0].conv.kernel_size == smallest
    assert model.mask_encoder.code.in_features == 2 * smallest[0] * smallest[1]
    assert model.decompose(images(1, size=size)).masks.shape == (1, 3, *size)


@pytest.mark.parametrize("two_stage", [True, False])
@pytest.mark.parametrize(("batch", "num_slots"), [(1, 1), (3, 2), (2, 5)])
def test_decomposes_with_any_number_of_slots(two_stage, batch, num_slots):
    model = Genesis(**TINY, two_stage=two_stage)
    d = model.decompose(images(batch), num_slots=num_slots)
    assert d.masks.shape == (batch, num_slots, *SIZE)
    assert d.components.shape == (batch, num_slots, 3, *SIZE)
    assert d.slots.shape == d.slot_scale.shape == (batch, num_slots, 9 if two_stage else 5)
    torch.testing.assert_close(d.masks.sum(1), torch.ones(batch, *SIZE))
    assert not d.components.requires_grad


def test_decomposing_leaves_no_trace_and_is_the_same_in_any_batch():
    """A model in training normalises by the batch and gathers statistics; inference does neither."""
    model, image = trained(), images(4, dtype=torch.float64)
    model.loss({"image": image})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        together = model.decompose(image)
    assert model.training and model.mask_encoder.training
    torch.testing.assert_close(dict(model.state_dict()), before)
    torch.testing.assert_close(together.components[:1], model.decompose(image[:1]).components)
    torch.testing.assert_close(model.eval().decompose(image).masks, together.masks)


def test_slots_decode_to_the_decomposition():
    model = trained().eval()
    d = model.decompose(images(dtype=torch.float64))
    means, log_masks = model.decode(d.slots)
    torch.testing.assert_close(means, d.components)
    torch.testing.assert_close(log_masks.exp(), d.masks)
    torch.testing.assert_close(d.mask_logits.softmax(1), d.masks)


def test_the_latent_of_the_last_mask_shapes_no_mask_but_a_component():
    model = trained().eval()
    d = model.decompose(images(dtype=torch.float64))
    changed = d.slots.clone()
    changed[:, -1] += 1
    means, log_masks = model.decode(changed)
    torch.testing.assert_close(log_masks.exp(), d.masks)
    torch.testing.assert_close(means[:, :-1], d.components[:, :-1])
    assert (means[:, -1] - d.components[:, -1]).abs().max() > 1e-3


def test_draws_scenes_from_its_prior():
    model = trained()
    torch.manual_seed(2)
    d = model.sample(400, num_slots=4)
    assert d.reconstruction.shape == (400, 3, *SIZE) and d.slots.shape == (400, 4, 9)
    torch.testing.assert_close(d.masks.sum(1), torch.ones(400, *SIZE, dtype=torch.float64))
    mask_z, component_z = d.slots.split(model.sizes, 2)
    priors = autoregressive_prior(model.mask_prior, mask_z.unbind(1))
    for k, expected in enumerate(priors):
        noise = (mask_z[:, k] - expected.mean) / expected.stddev
        assert noise.mean(0).abs().max() < 0.2 and (noise.std(0) - 1).abs().max() < 0.2
    assert model.sample(2).slots.shape[1] == 3
    assert Genesis(**TINY, two_stage=False).sample(1, num_slots=1).slots.shape == (1, 1, 5)


def test_importance_weights_are_the_negative_loss_of_their_noise():
    model = trained(geco_goal=None).eval()
    image = images(1, dtype=torch.float64)
    posterior = model.posteriors({"image": image})["gap"]
    noise = torch.randn(3, *posterior.noise_shape, dtype=torch.float64)
    weights = posterior.log_weights(noise)
    for one, weight in zip(noise, weights, strict=True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", lambda *_, one=one, **__: one[None])
            torch.testing.assert_close(-model.loss({"image": image}).total, weight)
    assert not weights.requires_grad


def test_geco_moves_beta_in_training_only():
    model = Genesis(**TINY, geco_goal=0.0)
    assert model.geco.rate == pytest.approx(1e-5 * 64**2 / (11 * 14))
    assert Genesis(**TINY).geco.goal == pytest.approx(0.5655 * 3 * 11 * 14)
    losses = model.loss({"image": images()})
    torch.testing.assert_close(losses.total, sum(losses.terms[name] for name in ("nll", "kl_mask", "kl_component")))
    assert losses.terms["beta"] == 1 and model.geco.beta < 1
    beta = model.eval().geco.beta.clone()
    model.loss({"image": images()})
    assert model.geco.beta == beta
    assert "beta" not in Genesis(**TINY, geco_goal=None).loss({"image": images()}).terms


@pytest.mark.parametrize(("lds_on", "latents"), [("component", [1]), ("mask", [0]), ("both", [0, 1])])
@pytest.mark.parametrize("on", ["samples", "means"])
def test_lds_is_added_to_the_loss_for_the_latents_that_are_asked_for(lds_on, latents, on):
    model, image = trained(lds={"weight": 0.5, "on": on}, lds_on=lds_on), images(dtype=torch.float64)
    seen = []
    lds = model.lds
    model.lds = type("Spy", (), {"weight": lds.weight, "on": on, "__call__": lambda _, *x: seen.append(x) or lds(*x)})()
    torch.manual_seed(1)
    losses = model.loss({"image": image})
    torch.manual_seed(1)
    noise = torch.randn(2, 3, 9, dtype=torch.float64)
    chosen = [[*model._explain(image, model.mask_encoder(image), noise).latents.values()][i] for i in latents]
    slots = torch.cat([latent.z if on == "samples" else latent.posterior.mean for latent in chosen], 2)
    torch.testing.assert_close(seen[0][0], slots)
    torch.testing.assert_close(losses.terms["lds"], lds(slots).mean().detach())
    rest = sum(losses.terms[name] for name in ("nll", "kl_mask", "kl_component"))
    torch.testing.assert_close(losses.total.detach(), rest + 0.5 * losses.terms["lds"])


@pytest.mark.parametrize("event", ["channel", "pixel", "mean"])
def test_all_three_likelihoods_train(event):
    model = Genesis(**TINY, mixture_event=event, likelihood_scale=0.1)
    model.loss({"image": images()}).total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_weights_load_with_gecos_state(tmp_path):
    model = Genesis(**TINY, lds={"weight": 2.0})
    model.loss({"image": images()})
    model.save_pretrained(tmp_path)
    copy = Genesis.from_pretrained(tmp_path)
    assert copy.geco.beta == model.geco.beta and copy.lds == model.lds
    torch.testing.assert_close(copy.decompose(images()).masks, model.decompose(images()).masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Genesis(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: Genesis(image_size=(64,)), r"image_size is \(64,\); give height and width"),
        (lambda: Genesis(beta_min=0.0), "beta_min is 0.0; it needs to be above 0"),
        (
            lambda: Genesis(mask_strides=(1, 2)),
            r"mask_strides is \(1, 2\), but mask_encoder_channels is .*; give equal",
        ),
        (lambda: Genesis(decoder_channels=()), r"decoder_channels is \(\); it needs to be above 0"),
        (
            lambda: check_choices(Genesis, {"lds_on": "all"}),
            "lds_on is 'all'; Genesis knows 'component', 'mask', 'both'",
        ),
        (lambda: Genesis(lds={"on": "slots"}), "lds.on is 'slots'; choose one of"),
        (lambda: Genesis(lds={}, num_slots=1), "lds compares slots, but num_slots is 1"),
        (lambda: Genesis(**TINY).decompose(images(), num_slots=0), "num_slots is 0"),
        (lambda: Genesis(**TINY).sample(0), "num_images is 0; it needs to be above 0"),
        (lambda: Genesis(**TINY).decompose(images(channels=1)), "image has 1 channels but the model was built for 3"),
        (lambda: Genesis(**TINY).loss({"image": images() * 255}), r"image must lie within \[0, 1\]"),
        (
            lambda: Genesis(**TINY).decompose(images(size=(12, 14))),
            r"image is \(12, 14\) but this model was built for image_size=\(11, 14\); resize the image",
        ),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
