"""Slot Attention against the equations, its parameter counts, its freedom of shapes, its refusals."""

import math

import pytest
import torch
import torch.nn.functional as F

import unscene
from plain_slot_attention import slot_attention_loss
from unscene import InputError, SlotAttention, recipes
from unscene.nn.slot_attention import Competition

TINY = {
    "num_slots": 3,
    "iterations": 2,
    "latent_size": 6,
    "encoder_channels": (4, 5),
    "decoder_channels": (6, 7),
    "decoder_strides": None,
    "hidden": 8,
}
UPSAMPLING = {"decoder_channels": (6, 7, 5), "decoder_strides": (2, 2, 1, 1)}


def images(batch=2, channels=3, height=11, width=14, dtype=torch.float32):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def shaken(**options):
    """A model in float64 with all parameters away from their symmetric start, so that every term matters."""
    torch.manual_seed(0)
    model = SlotAttention(**(TINY | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize(
    ("options", "strides"),
    [
        ({}, (1, 1, 1)),
        ({"encoder_strides": (1, 2)}, (1, 1, 1)),
        ({"decoder_strides": (1, 1, 2)}, (1, 1, 2)),
        (UPSAMPLING, (2, 2, 1, 1)),
    ],
    ids=str,
)
def test_equals_the_equations_in_values_and_gradients(options, strides):
    model, image = shaken(**options), images(dtype=torch.float64)
    torch.manual_seed(1)
    fast = model.loss({"image": image})
    torch.manual_seed(1)
    plain, _ = slot_attention_loss(model, image, strides, num_slots=3, iterations=2)
    torch.testing.assert_close(fast.total, plain, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fast.terms["mse"], plain.detach() / 4)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(plain, parameters)
    assert all(gradient.abs().max() > 0 for gradient in expected)
    torch.testing.assert_close(torch.autograd.grad(fast.total, parameters), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("lds", "looked_at"), [({"weight": 2.0}, [1]), ({"iterations": "all"}, [0, 1])])
def test_lds_looks_at_the_last_slots_or_at_all(lds, looked_at):
    model, image = shaken(lds=lds), images(dtype=torch.float64)
    torch.manual_seed(1)
    losses = model.loss({"image": image})
    torch.manual_seed(1)
    mse, history = slot_attention_loss(model, image, (1, 1, 1), num_slots=3, iterations=2)
    penalties = []
    for slots in history:
        pairs = [(h, j) for h in range(3) for j in range(3) if h != j]
        cosines = [F.cosine_similarity(slots[:, h], slots[:, j], dim=1) for h, j in pairs]
        penalties.append(sum(s**2 / (2 * 0.1**2) for s in cosines).mean())
    torch.testing.assert_close(losses.terms["lds"], penalties[-1].detach())
    summed = mse * image[0].numel() + lds.get("weight", 1.0) * sum(penalties[t] for t in looked_at)
    torch.testing.assert_close(losses.total * image[0].numel(), summed)


def test_presence_asks_the_masks():
    model, image = shaken(lds={"presence": True}), images(dtype=torch.float64)
    torch.manual_seed(1)
    losses = model.loss({"image": image})
    torch.manual_seed(1)
    d = model.decompose(image)
    torch.testing.assert_close(losses.terms["lds"], model.lds(d.slots, d.masks).mean())


def test_parameter_counts_of_the_paper():
    assert count(SlotAttention()) == count(recipes.build_model("slotattention/clevr6")) == 890_308
    assert {count(recipes.build_model(f"slotattention/{n}")) for n in ("tetrominoes", "multi_dsprites")} == {235_812}


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_initialisation_is_that_of_the_reference_code():
    torch.manual_seed(0)
    model = SlotAttention(latent_size=32)
    for weight, fan in ((model.slots.mean, 33), (model.slots.gru.weight_ih, 128), (model.slots.mlp.mlp[0].weight, 160)):
        limit = math.sqrt(6 / fan)
        assert 0.8 * limit < weight.abs().max() <= limit
    recurrent = model.slots.gru.weight_hh
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(32), rtol=0, atol=1e-5)
    assert all((p == 0).all() for name, p in model.named_parameters() if "bias" in name)
    assert {layer.eps for layer in model.modules() if isinstance(layer, torch.nn.LayerNorm)} == {1e-3}


def test_slots_compete_for_every_feature():
    torch.manual_seed(0)
    competition, slots, features = Competition(5, 6), torch.randn(2, 3, 6), 9 * torch.randn(2, 20, 5)
    read, attention = competition(slots, *competition.prepare(features))
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 20))
    assert read.shape == (2, 3, 6)
    values = competition.prepare(features)[1]
    assert (read <= values.amax(1, keepdim=True)).all() and (read >= values.amin(1, keepdim=True)).all()


def test_permuted_noise_permutes_the_slots():
    model, image = shaken(), images(1, dtype=torch.float64)
    noise, order = torch.randn(1, 3, 6, dtype=torch.float64), [2, 0, 1]
    ordered, permuted = with_noise(noise, model, image), with_noise(noise[:, order], model, image)
    torch.testing.assert_close(permuted.slots, ordered.slots[:, order])
    torch.testing.assert_close(permuted.components, ordered.components[:, order])
    torch.testing.assert_close(permuted.reconstruction, ordered.reconstruction)


def test_an_image_is_decomposed_alike_in_any_batch():
    model, image = shaken(), images(4, dtype=torch.float64)
    noise = torch.randn(4, 3, 6, dtype=torch.float64)
    together, alone = with_noise(noise, model, image), with_noise(noise[:1], model, image[:1])
    torch.testing.assert_close(together.components[:1], alone.components)


def with_noise(noise, model, image):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: noise)
        return model.decompose(image)


@pytest.mark.parametrize("options", [{}, UPSAMPLING], ids=str)
@pytest.mark.parametrize(("num_slots", "iterations"), [(1, 2), (5, 4)])
def test_decomposes_any_shape_with_any_number_of_slots(options, num_slots, iterations):
    model = SlotAttention(**(TINY | options))
    for batch, height, width in [(1, 9, 16), (3, 3, 2)]:
        d = model.decompose(images(batch, 3, height, width), num_slots=num_slots, iterations=iterations)
        assert d.masks.shape == (batch, num_slots, height, width)
        assert d.components.shape == (batch, num_slots, 3, height, width)
        assert d.slots.shape == (batch, num_slots, 6)
        torch.testing.assert_close(d.masks.sum(1), torch.ones(batch, height, width))
        assert d.components.isfinite().all() and not d.components.requires_grad


def test_history_holds_every_iteration_and_changes_nothing():
    model, image = SlotAttention(**TINY), images()
    torch.manual_seed(0)
    long = model.decompose(image, iterations=3, history=True)
    torch.manual_seed(0)
    short = model.decompose(image, iterations=2)
    assert len(long.history) == 3 and short.history == ()
    torch.testing.assert_close(long.history[1].components, short.components)
    torch.testing.assert_close(long.history[2].masks, long.masks)


def test_pictures_are_scaled_as_the_images_are():
    """Trained on nothing but one gray, the components get its value, not its value in [-1, 1]."""
    torch.manual_seed(0)
    model, image = SlotAttention(**TINY), torch.full((4, 3, 8, 8), 0.9)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss({"image": image}).total.backward()
        optimizer.step()
    assert (model.decompose(image).reconstruction - 0.9).abs().mean() < 0.1


def test_bfloat16_convolutions_stay_close_to_float32():
    model = SlotAttention(**TINY)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.loss({"image": images()}).total
    torch.manual_seed(1)
    torch.testing.assert_close(fast, model.loss({"image": images()}).total, rtol=0.02, atol=0)
    assert fast.dtype == torch.float32


def test_weights_come_back(tmp_path):
    model = SlotAttention(**TINY, lds={"weight": 0.5})
    model.save_pretrained(tmp_path)
    loaded = unscene.load(tmp_path)
    assert type(loaded) is SlotAttention and loaded.lds == model.lds
    torch.manual_seed(0)
    expected = model.decompose(images())
    torch.manual_seed(0)
    torch.testing.assert_close(loaded.decompose(images()).masks, expected.masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SlotAttention(num_slots=0), "num_slots is 0; it needs to be above 0"),
        (lambda: SlotAttention(iterations=0), "iterations is 0; it needs to be above 0"),
        (lambda: SlotAttention(kernel_size=4), "kernel_size is 4; it must be odd"),
        (lambda: SlotAttention(encoder_strides=(1, 2)), r"encoder_strides is \(1, 2\); give 4, as encoder_channels"),
        (lambda: SlotAttention(decoder_strides=(2, 1)), r"decoder_strides is \(2, 1\) for 6 convolutions .*, 1 or 2$"),
        (lambda: SlotAttention(decoder_strides=(1, 1)), r"decoder_strides is \[1, 1\] for 6 convolutions"),
        (lambda: SlotAttention(decoder_strides=()), r"decoder_strides is \(\); it needs to be above 0"),
        (lambda: SlotAttention(lds={"wait": 1}), "lds has the option 'wait'; it knows weight"),
        (lambda: SlotAttention(lds={"in_refinement": True}), "lds.in_refinement is of no use in Slot Attention"),
        (lambda: SlotAttention(**TINY).decompose(images(), num_slots=0), "num_slots is 0"),
        (lambda: SlotAttention(**TINY).decompose(images(), iterations=0), "iterations is 0"),
        (lambda: SlotAttention(**TINY).decompose(images(channels=1)), "image has 1 channels but the model was built"),
        (lambda: SlotAttention(**TINY).loss({"image": images() * 255}), "scale it before calling the model"),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
