"""MONet against the equations, its parameter counts, its masks at extremes, freedom of K, refusals."""

import math

import pytest
import torch

from plain_monet import attend, broadcast, mixture_nll, monet_loss
from unscene import InputError, MONet
from unscene.evaluation.gap import inference_gap
from unscene.models.base import check_choices
from unscene.models.monet import mask_kl

TINY = {
    "num_slots": 3,
    "latent_size": 5,
    "image_size": (16, 12),
    "attention_channels": (4, 6, 6),
    "attention_hidden": 7,
    "encoder_channels": (5, 6),
    "encoder_hidden": 8,
    "decoder_channels": (6, 7),
}


def images(batch=2, channels=3, height=16, width=12, dtype=torch.float32):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def shaken(model):
    """In float64 and away from where it starts, so that every term matters."""
    torch.manual_seed(7)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"posterior_scale": "exp", "encoder_padding": 0, "mixture_event": "pixel", "beta": 2.0, "gamma": 3.0},
        {"mixture_event": "mean", "mask_kl_floor": 0.1},
        {"num_slots": 1},
        {"image_size": (17, 11), "lds": {"weight": 0.5}},
        {"lds": {"on": "means", "presence": True}, "background_scale": 0.11},
        {"geco_goal": 0.6, "background_scale": 0.7, "foreground_scale": 0.7},
    ],
    ids=str,
)
def test_equals_the_equations_in_values_and_gradients(options):
    model = shaken(MONet(**(TINY | options)))
    image = images(2, 3, *model.image_size, dtype=torch.float64)
    torch.manual_seed(1)
    fast = model.loss({"image": image}).total
    torch.manual_seed(1)
    plain = monet_loss(model, image, options.get("encoder_padding", 1))
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=0)
    parameters = dict(model.named_parameters())
    mine = torch.autograd.grad(fast, parameters.values(), materialize_grads=True, allow_unused=True)
    theirs = torch.autograd.grad(plain, parameters.values(), materialize_grads=True, allow_unused=True)
    for name, one, other in zip(parameters, mine, theirs, strict=True):
        scale = other.abs().max().clamp(min=1e-6)
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-7, msg=name)


def test_masks_at_extreme_shares():
    """Logarithms and their gradients stay finite where probabilities are 0, and masks sum to 1."""
    model, image = MONet(**TINY), images()
    shares = [torch.full((2, 1, 16, 12), value).requires_grad_() for value in (50.0, -50.0, 50.0, -50.0)]
    queue = iter(shares)
    model.attention_out.forward = lambda x: next(queue)
    log_masks = model.attend(image, 5)
    assert log_masks.isfinite().all()
    torch.testing.assert_close(log_masks.exp().sum(1), torch.ones(2, 16, 12), rtol=0, atol=1e-6)
    torch.testing.assert_close(log_masks[0, :, 0, 0], torch.tensor([0.0, -100, -50, -150, -100]))
    loss = mask_kl(log_masks, torch.zeros_like(log_masks).log_softmax(1)).sum()
    loss = loss - model.log_likelihood(image, torch.rand(2, 5, 3, 16, 12), log_masks).sum()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, shares))


def test_a_mask_floor_counts_as_much_for_both_and_stops_the_gradient():
    far = torch.tensor([0.0, -30.0]).view(1, 2, 1, 1).log_softmax(1).requires_grad_()
    near = torch.tensor([-30.0, 0.0]).view(1, 2, 1, 1).log_softmax(1)
    torch.testing.assert_close(mask_kl(far, near), torch.tensor([30.0]))
    value = mask_kl(far, near, floor=1e-5)
    assert value.item() == pytest.approx((1 - 1e-5) / (1 + 1e-5) * math.log(1e5), rel=1e-5)
    assert torch.autograd.grad(value.sum(), far)[0][0, 1].item() == 0


@pytest.mark.parametrize("event", ["channel", "pixel", "mean"])
def test_the_likelihoods_agree_where_one_slot_owns_everything(event):
    model, image, means = (
        MONet(**TINY, mixture_event=event, background_scale=0.11),
        images(),
        torch.rand(2, 3, 3, 16, 12),
    )
    log_masks = torch.tensor([-1e4, 0.0, -1e4]).view(1, 3, 1, 1).expand(2, 3, 16, 12)
    expected = torch.distributions.Normal(means[:, 1], 0.11).log_prob(image).sum((1, 2, 3))
    torch.testing.assert_close(model.log_likelihood(image, means, log_masks), expected)


def test_parameter_counts_are_those_of_the_re_implementations():
    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    model = MONet()
    assert count(model.attention, model.attention_out) == 604_513
    assert count(model.encoder) == 336_480 and count(model.decoder) == 33_092
    assert count(model) == 974_085
    assert count(MONet(image_size=(128, 128))) == 1_788_293
    dittadi = MONet(encoder_padding=0, decoder_channels=(32, 32, 64, 64), posterior_scale="exp")
    second_logit = 32 + 1  # theirs, of which only the difference to the first one matters
    assert count(dittadi) + second_logit == 896_486


def test_decoders_start_as_other_layers_do():
    """Uniform within 1 / sqrt(fan in), and biases that are not 0."""
    for layer in MONet().decoder.convs:
        bound = layer.weight[0].numel() ** -0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound and layer.bias.abs().min() > 0


# ---- decomposing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_slots", [1, 2, 6])
def test_decomposes_with_any_number_of_slots(num_slots):
    model = shaken(MONet(**TINY))
    for batch in (1, 3):
        image = images(batch, dtype=torch.float64)
        d = model.decompose(image, num_slots=num_slots)
        assert d.masks.shape == d.mask_logits.shape == (batch, num_slots, 16, 12)
        assert d.components.shape == (batch, num_slots, 3, 16, 12)
        assert d.slots.shape == d.slot_scale.shape == (batch, num_slots, 5)
        torch.testing.assert_close(d.masks, torch.cat(attend(model, image, num_slots), 1).detach())
        torch.testing.assert_close(d.masks.sum(1), torch.ones(batch, 16, 12, dtype=torch.float64))
        decoded = broadcast(model.decoder, d.slots.flatten(0, 1), (16, 12)).unflatten(0, (batch, num_slots))
        torch.testing.assert_close(d.components, decoded[:, :, :3].sigmoid().detach())
        torch.testing.assert_close(d.mask_logits, decoded[:, :, 3].detach())
        assert not any(x.requires_grad for x in (d.masks, d.components, d.slots, d.mask_logits))


def test_decomposing_is_not_random_and_slots_do_not_depend_on_the_batch():
    model, image = shaken(MONet(**TINY)), images(3, dtype=torch.float64)
    whole = model.decompose(image)
    torch.testing.assert_close(model.decompose(image[1:2]).slots, whole.slots[1:2])
    assert torch.equal(model.decompose(image).components, whole.components)
    with torch.inference_mode():
        assert torch.equal(model.decompose(image).masks, whole.masks)


def test_earlier_masks_do_not_know_how_many_follow():
    model, image = shaken(MONet(**TINY)), images(dtype=torch.float64)
    few, many = (model.decompose(image, num_slots=k).masks for k in (3, 5))
    torch.testing.assert_close(few[:, :2], many[:, :2])
    torch.testing.assert_close(few[:, 2], many[:, 2:].sum(1))


def test_posteriors_weigh_samples_as_the_loss_does():
    """With beta 1 and gamma 0, log weights of the noise that the loss draws are its ELBO up to the KL's own noise."""
    model, image = shaken(MONet(**TINY, beta=1.0, gamma=0.0)), images(1, dtype=torch.float64)
    found = model.posteriors({"image": image}, num_slots=4)
    assert found.keys() == {"gap", "gap_generative"}
    noise = torch.randn(6, 4, 5, dtype=torch.float64)
    d = model.decompose(image, num_slots=4)
    z = d.slots + d.slot_scale * noise
    normal = torch.distributions.Normal
    ratio = (normal(0, 1).log_prob(z) - normal(d.slots, d.slot_scale).log_prob(z)).sum((1, 2))
    decoded = broadcast(model.decoder, z.flatten(0, 1), (16, 12)).unflatten(0, (6, 4))
    for name, masks in (("gap", d.masks.expand(6, -1, -1, -1)), ("gap_generative", decoded[:, :, 3].softmax(1))):
        rgb = list(decoded[:, :, :3].sigmoid().unbind(1))
        nll = [
            mixture_nll(model, image, [m[i : i + 1, None] for m in masks.unbind(1)], [x[i : i + 1] for x in rgb])
            for i in range(6)
        ]
        torch.testing.assert_close(found[name].log_weights(noise), ratio - torch.stack(nll))
    gaps = inference_gap(model.float(), [{"image": image[0].float()}], num_samples=4).values
    assert gaps["gap"] >= 0 and gaps["gap_generative"] >= 0


# ---- training -------------------------------------------------------------------------------------------------------


def test_terms_are_before_their_weights():
    model = MONet(**TINY, beta=2.0, gamma=3.0, lds={"weight": 0.25})
    total, terms = model.loss({"image": images()})
    expected = terms["nll"] + 2 * terms["kl"] + 3 * terms["mask_kl"] + 0.25 * terms["lds"]
    torch.testing.assert_close(total.detach(), expected)
    assert not any(term.requires_grad for term in terms.values())


def test_geco_weighs_both_kls_and_moves_in_training_only():
    model, batch = MONet(**TINY, geco_goal=1e3, geco_rate=1.0, beta=2.0, gamma=3.0), {"image": images()}
    model.loss(batch)
    assert model.geco.beta > 1  # the error is below the goal
    total, terms = model.eval().loss(batch)
    assert terms["geco"] == model.geco.beta
    torch.testing.assert_close(total, terms["nll"] + terms["geco"] * (2 * terms["kl"] + 3 * terms["mask_kl"]))


def test_every_parameter_learns():
    model = shaken(MONet(**TINY))
    model.loss({"image": images(dtype=torch.float64)}).total.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_bfloat16_convolutions_stay_close_to_float32():
    model, image = MONet(**TINY), images()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.loss({"image": image}).total
        fast.backward()
        d = model.decompose(image)
        assert {x.dtype for x in (d.masks, d.components, d.slots, d.mask_logits)} == {torch.float32}
    torch.manual_seed(1)
    torch.testing.assert_close(fast, model.loss({"image": image}).total, rtol=0.02, atol=0)
    assert fast.dtype == torch.float32


def test_weights_come_back(tmp_path):
    model, image = MONet(**TINY, lds={"weight": 0.5}, geco_goal=0.6), images()
    model.loss({"image": image})
    model.save_pretrained(tmp_path)
    again = MONet.from_pretrained(tmp_path)
    assert torch.equal(again.decompose(image).masks, model.decompose(image).masks)
    assert again.lds == model.lds and again.geco.beta == model.geco.beta


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MONet(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: MONet(background_scale=0.0), "background_scale is 0.0; it needs to be above 0"),
        (lambda: MONet(mask_kl_floor=0.0), "mask_kl_floor is 0.0; it needs to be above 0"),
        (lambda: MONet(attention_channels=()), r"attention_channels is \(\); it needs to be above 0"),
        (lambda: MONet(image_size=(64,)), r"image_size is \(64,\); give height and width"),
        (lambda: MONet(image_size=(64, 8), encoder_padding=0), r"\(64, 8\); 4 convolutions with padding 0"),
        (lambda: MONet(encoder_padding=2), "encoder_padding is 2; it must be 0 or 1"),
        (lambda: MONet(gamma=-1.0), "beta is 0.5 and gamma -1.0; weights must not be negative"),
        (lambda: MONet(num_slots=1, lds={}), "lds compares slots, but num_slots is 1"),
        (lambda: MONet(lds={"wait": 1}), "lds has the option 'wait'; it knows weight"),
        (lambda: check_choices(MONet, {"mixture_event": "scene"}), "mixture_event is 'scene'; MONet knows 'channel'"),
        (lambda: MONet(**TINY).decompose(images(), num_slots=0), "num_slots is 0"),
        (lambda: MONet(**TINY).decompose(images(height=12, width=16)), r"\(12, 16\) but .* image_size=\(16, 12\)"),
        (
            lambda: MONet(**TINY).loss({"image": images(channels=1)}),
            "image has 1 channels but the model was built for 3",
        ),
        (lambda: MONet(**TINY).loss({"image": images() * 255}), r"image must lie within \[0, 1\]"),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
