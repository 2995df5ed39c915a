"""IODINE against the textbook version, its parameter counts, its freedom of shapes, its refusals."""

import weakref

import pytest
import torch

from plain_iodine import PlainIODINE
from unscene import IODINE, InputError
from unscene.models.base import check_choices
from unscene.models.iodine import INPUTS
from unscene.priors.lds import LDS
from unscene.scenes import check_image

TINY = {
    "num_slots": 3,
    "iterations": 2,
    "latent_size": 5,
    "decoder_channels": (6, 7),
    "refinement_channels": (6, 8),
    "refinement_mlp": (9,),
    "lstm_size": 10,
}


def images(batch=2, channels=3, height=11, width=14, dtype=torch.float32):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lstm_size": None, "coordinates": "cosine", "kernel_size": 5},
        {"likelihood": "logistic", "variance": "exp", "rgb_activation": "sigmoid"},
        {"pool": "flatten", "image_size": (11, 14), "refinement_mlp": (9, 4)},
        {"recompute": True},
        {"recompute": True, "lds": {"weight": 0.0}},
        {"decoder": "deconv", "image_size": (11, 14), "kernel_size": 5},
        {"without": ("image", "coordinates")},
    ]
    + [{"without": (name,)} for name in INPUTS],
    ids=str,
)
def test_equals_the_textbook_in_values_and_gradients(options):
    torch.manual_seed(0)
    model = IODINE(**(TINY | options)).double()
    with torch.no_grad():  # away from the symmetric start, so that every term matters
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    plain = PlainIODINE(model)
    image = images(dtype=torch.float64)
    torch.manual_seed(1)
    fast_loss = model.loss({"image": image}).total
    torch.manual_seed(1)
    plain_loss = plain.loss(image)
    torch.testing.assert_close(fast_loss, plain_loss, rtol=1e-9, atol=1e-9)
    fast_loss.backward()
    plain_loss.backward()
    for (name, mine), textbook in zip(model.named_parameters(), plain.model.parameters(), strict=True):
        scale = textbook.grad.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(mine.grad / scale, textbook.grad / scale, rtol=1e-6, atol=1e-7, msg=name)


def lds_run(monkeypatch, options):
    """Model, its loss, and the latents (z, mean) of each of its decodes."""
    torch.manual_seed(0)
    model = IODINE(**TINY, lds=options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    guesses, plain_guess = [], model._guess
    monkeypatch.setattr(model, "_guess", lambda *a, **k: guesses.append(plain_guess(*a, **k)) or guesses[-1])
    torch.manual_seed(1)
    losses = model.loss({"image": images(dtype=torch.float64)})
    return model, losses, [[x.unflatten(0, (2, 3)) for x in (g.z, g.mean)] for g in guesses]


@pytest.mark.parametrize("options", [{"weight": 0.5}, {"on": "means", "iterations": "last"}], ids=str)
def test_lds_adds_its_penalty_of_every_iteration(monkeypatch, options):
    model, losses, latents = lds_run(monkeypatch, options)
    plain, without, plain_latents = lds_run(monkeypatch, None)
    prior = LDS(**options)

    def penalty(t, latents):
        return prior(latents[t][0 if prior.on == "samples" else 1]).mean()

    counted = [0, 0, 1] if prior.iterations == "last" else [0, 0.5, 1]
    expected = sum(prior.weight * w * penalty(t, plain_latents) for t, w in enumerate(counted))
    torch.testing.assert_close(losses.total, without.total + expected)
    torch.testing.assert_close(losses.terms["lds"], penalty(2, latents).detach())
    assert "lds" not in without.terms
    losses.total.backward()
    (without.total + expected).backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("on", ["samples", "means"])
def test_lds_in_the_refinement_is_the_gradient_of_each_images_penalty(on):
    torch.manual_seed(0)
    options = {"weight": 3.0, "on": on, "in_refinement": True}
    model, without = IODINE(**TINY, lds=options).double(), IODINE(**TINY).double()
    without.load_state_dict(model.state_dict())
    image = images(dtype=torch.float64)
    posterior = 0.3 * torch.randn(6, 10, dtype=torch.float64)
    gradients = []
    for m in (model, without):
        torch.manual_seed(1)
        guess = m._guess(image, posterior, m._fixed(image))
        gradients.append(m._posterior_gradient(guess))
    p = posterior.clone().requires_grad_()
    mean, s = p.chunk(2, 1)
    z = mean + torch.nn.functional.softplus(s).sqrt() * guess.noise
    penalty = 3 * LDS()((z if on == "samples" else mean).unflatten(0, (2, 3))).sum()
    torch.testing.assert_close(gradients[0] - gradients[1], torch.autograd.grad(penalty, p)[0])


def test_lds_is_no_part_of_inference():
    model, without = (IODINE(**TINY, lds=options) for options in ({"weight": 1e6}, None))
    without.load_state_dict(model.state_dict())
    results = []
    for m in (model, without):
        torch.manual_seed(0)
        results.append(m.decompose(images()).components)
    assert torch.equal(*results)


def test_bfloat16_convolutions_stay_close_to_float64():
    torch.manual_seed(0)
    model = IODINE(**TINY)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fast = model.loss({"image": images()}).total
    torch.manual_seed(1)
    torch.testing.assert_close(fast, model.loss({"image": images()}).total, rtol=0.02, atol=0)
    assert fast.dtype == torch.float32


def test_parameter_count_of_clevr6():
    decoder = 64 * (66 * 9 + 1) + 3 * 64 * (64 * 9 + 1) + 4 * (64 * 9 + 1)
    convolutions = 64 * (17 * 9 + 1) + 3 * 64 * (64 * 9 + 1)
    mlp = 256 * (64 + 1)
    lstm = 4 * 256 * (256 + 256 + 256 + 2)
    head, initial, norms = 128 * 257, 128, 2 * (3 + 1 + 1 + 1) + 2 * 128
    total = decoder + convolutions + mlp + lstm + head + initial + norms
    assert sum(p.numel() for p in IODINE().parameters()) == total


@pytest.mark.parametrize(("num_slots", "iterations"), [(1, 2), (2, 0), (5, 4)])
def test_decomposes_any_shape_with_any_number_of_slots(num_slots, iterations):
    model = IODINE(**TINY)
    for batch, height, width in [(1, 9, 16), (3, 3, 2)]:
        d = model.decompose(images(batch, 3, height, width), num_slots=num_slots, iterations=iterations)
        assert d.masks.shape == (batch, num_slots, height, width)
        assert d.components.shape == (batch, num_slots, 3, height, width)
        assert d.slots.shape == d.slot_scale.shape == (batch, num_slots, 5)
        torch.testing.assert_close(d.masks.sum(1), torch.ones(batch, height, width))
        assert d.components.isfinite().all() and not d.components.requires_grad


def test_last_decode_is_that_of_the_slots():
    model, image = IODINE(**TINY), images()
    d = model.decompose(image)
    means, logits = model.decode(d.slots, (11, 14))
    torch.testing.assert_close(means, d.components)
    torch.testing.assert_close(logits, d.mask_logits)


def test_history_holds_every_decode_and_changes_nothing():
    model, image = IODINE(**TINY), images()
    torch.manual_seed(0)
    with_history = model.decompose(image, iterations=3, history=True)
    torch.manual_seed(0)
    without = model.decompose(image, iterations=3)
    assert len(with_history.history) == 4 and without.history == ()
    torch.testing.assert_close(with_history.components, without.components)
    torch.testing.assert_close(with_history.history[-1].masks, with_history.masks)


def test_works_in_inference_mode_and_leaves_no_gradients():
    model = IODINE(**TINY)
    with torch.inference_mode():
        model.decompose(images())
    assert all(p.grad is None for p in model.parameters())


def test_slots_are_interchangeable_but_for_their_noise():
    """With the noise permuted, the slots are permuted: no parameter knows which slot it serves."""
    model, image = IODINE(**TINY).double(), images(1, dtype=torch.float64)
    noises = [torch.randn(3, 5, dtype=torch.float64) for _ in range(3)]
    order = [2, 0, 1]
    permuted = with_noise([noise[order] for noise in noises], model, image)
    torch.testing.assert_close(permuted.components, with_noise(noises, model, image).components[:, order])


def test_an_image_is_decomposed_alike_in_any_batch():
    """Given the same noise; the refinement's inputs are gradients of each image's own loss."""
    model, image = IODINE(**TINY).double(), images(4, dtype=torch.float64)
    noises = [torch.randn(4 * 3, 5, dtype=torch.float64) for _ in range(3)]
    together, alone = (
        with_noise(noise, model, batch) for noise, batch in zip(halves(noises), (image, image[:1]), strict=True)
    )
    assert (together.components[0] - together.components[1]).abs().max() > 1e-3
    torch.testing.assert_close(together.components[:1], alone.components)
    torch.testing.assert_close(together.slots[:1], alone.slots)


def halves(noises):
    return noises, [noise[:3] for noise in noises]


def with_noise(noises, model, image):
    queue = iter(noises)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: next(queue))
        return model.decompose(image, iterations=2)


@pytest.mark.parametrize("options", [{}, {"recompute": True}], ids=str)
def test_trains_under_distributed_data_parallel(options, tmp_path):
    """One process, but with DDP's bookkeeping of which parameters got a gradient."""

    class Loss(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, image):
            torch.manual_seed(1)
            return self.model.loss({"image": image}).total

    plain = Loss(IODINE(**TINY, **options))
    plain(images()).backward()
    expected = [p.grad.clone() for p in plain.parameters()]
    plain.zero_grad()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(plain, static_graph=bool(options))
        parallel(images()).backward()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close([p.grad for p in plain.parameters()], expected)


def test_inference_memory_does_not_grow_with_iterations():
    means = []
    for guess in IODINE(**TINY).infer(images(), 3, 6):
        means.append(weakref.ref(guess.means))
        assert sum(ref() is not None for ref in means) <= 2


def test_deconvolutional_decoder_has_the_papers_sizes():
    decoder = IODINE(decoder="deconv", kernel_size=5, image_size=(128, 128)).decoder
    convolutions = 64 * (8 * 25 + 1) + 4 * 64 * (64 * 25 + 1) + 4 * (64 * 25 + 1)
    assert sum(p.numel() for p in decoder.parameters()) == 512 * 65 + 512 * 513 + convolutions
    model = IODINE(**(TINY | {"decoder": "deconv", "image_size": (35, 40), "kernel_size": 5}))
    assert model.decompose(images(1, 3, 35, 40)).masks.shape == (1, 3, 35, 40)
    model.loss({"image": images(1, 3, 35, 40)}).total.backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: IODINE(num_slots=0), "num_slots is 0; a decomposition needs at least 1 slot"),
        (lambda: IODINE(without=["pixels"]), r"without names \['pixels'\], but the refinement inputs are means, mask"),
        (lambda: IODINE(pool="flatten"), "give image_size"),
        (lambda: check_choices(IODINE, {"variance": "foo"}), "variance is 'foo'; IODINE knows 'softplus', 'exp'"),
        (lambda: IODINE(kernel_size=4), "kernel_size is 4; it must be odd"),
        (lambda: IODINE(latent_size=0), "latent_size is 0; it needs to be above 0"),
        (lambda: IODINE(decoder_channels=()), r"decoder_channels is \(\); it needs to be above 0"),
        (lambda: IODINE(**TINY).decompose(images(), num_slots=0), "num_slots is 0"),
        (lambda: IODINE(**TINY).decompose(images(), iterations=-1), "iterations is -1"),
        (lambda: IODINE(**TINY).decompose(images(channels=1)), "image has 1 channels but the model was built for 3"),
        (lambda: IODINE(**TINY).decompose(images() * 255), r"image must lie within \[0, 1\], found values from"),
        (lambda: IODINE(**TINY).decompose(images() / 0 * 0), "found NaN"),
        (lambda: check_image(images()[0]), r"must be a float tensor \(B, C, H, W\)"),
        (lambda: IODINE(**TINY).loss({"image": images() - 1}), "scale it before calling the model"),
        (
            lambda: IODINE(**(TINY | {"pool": "flatten", "image_size": (8, 8)})).decompose(images()),
            r"image is \(11, 14\) but this model was built for image_size=\(8, 8\)",
        ),
    ],
)
def test_refuses_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()
