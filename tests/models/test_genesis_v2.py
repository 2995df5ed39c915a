"""GENESIS-V2 against the textbook version, its parameter count, the anchors of IC-SBP, generation, refusals."""

import math

import pytest
import torch

from plain_genesis import attention, autoregressive_prior, genesis_v2_loss
from unscene import GenesisV2, InputError
from unscene.models.genesis_v2 import InstanceColouring

SIZE = (11, 14)
TINY = {
    "image_size": SIZE,
    "num_slots": 3,
    "latent_size": 5,
    "encoder_channels": (8, 16),
    "colour_size": 4,
    "decoder_channels": (8, 16),
    "prior_size": 6,
}


def images(batch=2, channels=3, size=SIZE, dtype=torch.float32):
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def trained(**options):
    """A model in float64 that is away from its start, so that every term matters."""
    torch.manual_seed(0)
    model = GenesisV2(**(TINY | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    "options", [{}, {"attention_kl": True}, {"image_size": (16, 12)}, {"coordinates": True}], ids=str
)
def test_equals_the_textbook_in_values_and_gradients(options):
    model = trained(**options)
    image = images(size=model.image_size, dtype=torch.float64)
    torch.manual_seed(1)
    fast = model.loss({"image": image}).total
    torch.manual_seed(1)
    uniform = torch.rand(2, image.shape[2] * image.shape[3], dtype=torch.float64)
    noise = torch.randn(2, 3, 5, dtype=torch.float64)
    plain = genesis_v2_loss(model, image, uniform, noise)
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-9)
    parameters = dict(model.named_parameters())
    fast, plain = (torch.autograd.grad(loss, parameters.values()) for loss in (fast, plain))
    for name, mine, textbook in zip(parameters, fast, plain, strict=True):
        scale = textbook.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(mine / scale, textbook / scale, rtol=1e-6, atol=1e-7, msg=name)


def test_bfloat16_convolutions_stay_close_to_float32():
    torch.manual_seed(0)
    model = GenesisV2(**TINY, geco_goal=None)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.loss({"image": images()})
    torch.manual_seed(1)
    torch.testing.assert_close(fast.total, model.loss({"image": images()}).total, rtol=0.01, atol=0)
    assert fast.total.dtype == fast.terms["kl"].dtype == torch.float32


def test_parameter_count_at_64_pixels():
    assert sum(p.numel() for p in GenesisV2().parameters()) == 2_729_422


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_attention_sums_to_one_for_any_colours(scale):
    torch.manual_seed(0)
    colouring, maps = InstanceColouring(6, 4, 5).double(), torch.randn(2, 6, 7, 9, dtype=torch.float64)
    colouring.gate.data.fill_(scale)
    torch.manual_seed(1)
    masks = colouring(maps, 5).exp()
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 7, 9, dtype=torch.float64))
    torch.manual_seed(1)
    plain = attention(colouring, maps, 5, torch.rand(2, 63, dtype=torch.float64))
    torch.testing.assert_close(masks, torch.stack(plain, 1))


def test_colouring_starts_with_discs_around_random_pixels():
    colouring = InstanceColouring(6, 8, 4)
    assert colouring.log_sigma.exp().item() == pytest.approx(1 / (4 * math.log(2)))
    masks = colouring(torch.randn(50, 6, 9, 9), 4).exp()[:, 0]
    seeds = masks.flatten(1).argmax(1)
    assert len(seeds.unique()) > 20
    squared = squared_distances(seeds)
    torch.testing.assert_close(masks, (-4 * math.log(2) * squared).exp().clamp(0.01, 0.99))


def test_the_clamp_lets_gradients_through():
    colouring = InstanceColouring(6, 8, 2)
    colouring.log_sigma.data.fill_(-1)
    masks = colouring(torch.randn(50, 6, 9, 9), 2).exp()
    masks[:, 0].sum().backward()
    ratio = squared_distances(masks[:, 0].flatten(1).argmax(1)) / math.exp(-1)
    torch.testing.assert_close(colouring.log_sigma.grad, (ratio * (-ratio).exp()).sum())


def squared_distances(seeds):
    """Of all pixels of 9 x 9 images, whose coordinates end at 1, from one pixel (B,) of each."""
    y, x = ((seed / 4 - 1)[:, None, None] for seed in (seeds // 9, seeds % 9))
    axis = torch.linspace(-1, 1, 9)
    return (axis[:, None] - y) ** 2 + (axis - x) ** 2


@pytest.mark.parametrize(("batch", "num_slots"), [(1, 1), (3, 2), (2, 5)])
def test_decomposes_with_any_number_of_slots(batch, num_slots):
    model = GenesisV2(**TINY)
    d = model.decompose(images(batch), num_slots=num_slots)
    assert d.masks.shape == d.mask_logits.shape == (batch, num_slots, *SIZE)
    assert d.components.shape == (batch, num_slots, 3, *SIZE)
    assert d.slots.shape == d.slot_scale.shape == (batch, num_slots, 5)
    torch.testing.assert_close(d.masks.sum(1), torch.ones(batch, *SIZE))
    assert not d.components.requires_grad
    torch.testing.assert_close(model.attend(images(batch), num_slots=num_slots).sum(1), torch.ones(batch, *SIZE))


@pytest.mark.parametrize("size", [(32, 32), (35, 35), (64, 40)])
def test_any_image_size_can_be_built(size):
    model = GenesisV2(image_size=size, num_slots=2, latent_size=5, decoder_channels=(8, 8, 8, 8))
    with torch.inference_mode():
        assert model.decompose(images(1, size=size)).masks.shape == (1, 2, *size)


def test_slots_decode_to_the_decomposition():
    model = trained()
    d = model.decompose(images(dtype=torch.float64))
    means, mask_logits = model.decode(d.slots)
    torch.testing.assert_close(means, d.components)
    torch.testing.assert_close(mask_logits.softmax(1), d.masks)


def test_draws_scenes_from_its_prior():
    model = trained()
    torch.manual_seed(2)
    d = model.sample(400, num_slots=4)
    assert d.reconstruction.shape == (400, 3, *SIZE) and d.slots.shape == (400, 4, 5)
    for k, expected in enumerate(autoregressive_prior(model.prior, d.slots.unbind(1))):
        noise = (d.slots[:, k] - expected.mean) / expected.stddev
        assert noise.mean(0).abs().max() < 0.2 and (noise.std(0) - 1).abs().max() < 0.2
    assert model.sample(2).slots.shape[1] == 3 and model.sample(1, num_slots=1).masks.min() == 1


def test_importance_weights_are_the_negative_loss_of_their_noise():
    model, image = trained(geco_goal=None), images(1, dtype=torch.float64)
    torch.manual_seed(1)
    posterior = model.posteriors({"image": image})["gap"]
    noise = torch.randn(3, *posterior.noise_shape, dtype=torch.float64)
    weights = posterior.log_weights(noise)
    for one, weight in zip(noise, weights, strict=True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda _, one=one: one[None])
            torch.manual_seed(1)  # the same seeds for the slots
            torch.testing.assert_close(-model.loss({"image": image}).total, weight)
    assert not weights.requires_grad


@pytest.mark.parametrize("on", ["samples", "means"])
def test_lds_is_added_to_the_loss(on):
    model, image = trained(lds={"weight": 0.5, "on": on, "presence": True}), images(dtype=torch.float64)
    torch.manual_seed(1)
    losses = model.loss({"image": image})
    torch.manual_seed(1)
    posterior = model._infer(image, 3)[1]
    z = posterior.sample()
    masks = model.decode(z)[1].softmax(1)
    penalty = model.lds(z if on == "samples" else posterior.mean, masks).mean().detach()
    torch.testing.assert_close(losses.terms["lds"], penalty)
    torch.testing.assert_close(losses.total.detach(), losses.terms["nll"] + losses.terms["kl"] + 0.5 * penalty)


def test_attention_kl_trains_the_attention_only():
    model, image = GenesisV2(**TINY, attention_kl=True, geco_goal=0.0), images()
    losses = model.loss({"image": image})
    torch.testing.assert_close(losses.total, sum(losses.terms[name] for name in ("nll", "kl", "kl_attention")))
    assert losses.terms["beta"] == 1 and model.geco.beta < 1
    assert model.geco.rate == pytest.approx(1e-5 * 64**2 / (11 * 14))
    assert losses.terms["kl_attention"] > 0


@pytest.mark.parametrize("event", ["channel", "pixel", "mean"])
def test_all_three_likelihoods_train(event):
    model = GenesisV2(**TINY, mixture_event=event, likelihood_scale=0.1)
    model.loss({"image": images()}).total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_weights_load_with_gecos_state(tmp_path):
    model = GenesisV2(**TINY)
    model.loss({"image": images()})
    model.save_pretrained(tmp_path)
    copy = GenesisV2.from_pretrained(tmp_path)
    assert copy.geco.beta == model.geco.beta
    torch.manual_seed(1)
    masks = model.decompose(images()).masks
    torch.manual_seed(1)
    torch.testing.assert_close(copy.decompose(images()).masks, masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GenesisV2(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: GenesisV2(encoder_channels=(8, 12)), r"encoder_channels is \(8, 12\); .* multiples of 8"),
        (lambda: GenesisV2(decoder_channels=(4,)), r"decoder_channels is \(4,\); .* multiples of 8"),
        (lambda: GenesisV2(image_size=(64, 64, 3)), r"image_size is \(64, 64, 3\); give height and width"),
        (lambda: GenesisV2(geco_rate=-1.0), "geco_rate is -1.0; it needs to be above 0"),
        (lambda: GenesisV2(colour_size=1), "colour_size is 1; it needs at least the 2 dimensions of positions"),
        (lambda: GenesisV2(lds={"size": 3}), "lds has the option 'size'"),
        (lambda: GenesisV2(lds={}, num_slots=1), "lds compares slots, but num_slots is 1"),
        (lambda: GenesisV2(**TINY).decompose(images(), num_slots=0), "num_slots is 0"),
        (lambda: GenesisV2(**TINY).sample(0), "num_images is 0; it needs to be above 0"),
        (lambda: GenesisV2(**TINY).decompose(images(channels=1)), "image has 1 channels but the model was built for 3"),
        (lambda: GenesisV2(**TINY).attend(images() * 255), r"image must lie within \[0, 1\]"),
        (
            lambda: GenesisV2(**TINY).decompose(images(size=(12, 14))),
            r"image is \(12, 14\) but this model was built for image_size=\(11, 14\); resize the image",
        ),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
