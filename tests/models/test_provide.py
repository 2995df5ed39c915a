"""PROVIDE against a plain version written from the equations (autograd for all gradients, no fast paths)."""

import math

import pytest
import torch

from plain_provide import PlainPROVIDE
from unscene.errors import InputError
from unscene.models.provide import PROVIDE
from unscene.priors.lds import LDS

SMALL = {
    "image_size": (8, 12),
    "num_slots": 3,
    "iterations": 4,
    "latent_size": 5,
    "hidden_size": 6,
    "decoder_channels": (4, 4),
    "refinement_channels": (4, 4),
    "refinement_pool": 2,
}


def small(**options):
    torch.manual_seed(0)
    return PROVIDE(**SMALL | options).double()


def video(frames=3, batch=2):
    return torch.rand(batch, frames, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mixture": "pixel", "entropy_weight": 0.3, "prior_logvar": "linear"},
        {"conditional": False, "grid": "full", "step_weight": "frame"},
        {"resample": True, "mask_posterior": "log_likelihood", "recompute": True, "truncate": 9},
        {"code_norm": True, "shortcut": True, "step_weight": "refined"},
        {"start": "predicted", "resample": True, "step_weight": "refined"},
        {"start": "predicted", "prior_logvar": "linear", "step_weight": "frame", "recompute": True},
        {"start": "predicted", "predict_z": "prior_mean", "predicted_frames": 2, "code_norm": True, "shortcut": True},
        {"start": "predicted", "motion": 1, "predict_z": "prior_mean", "predicted_frames": 1, "truncate": 9},
        {"start": "predicted", "motion": 2, "predict_z": "prior_mean", "predicted_frames": 2, "resample": True},
        {"predicted_frames": 3},
        {"mask_gradient": "logits", "initialisation": "strong"},
        {"decoder_octaves": 2, "decoder_strides": (1, 1, 2), "refinement_stride": 2, "refinement_pool": 1},
    ],
)
def test_equals_the_textbook_in_values_and_gradients(options):
    model, x = small(**options), video(5)
    torch.manual_seed(5)
    plain = PlainPROVIDE(model)
    expected = plain.loss(x)
    expected.backward()
    torch.manual_seed(5)
    losses = model.loss({"image": x})
    torch.testing.assert_close(losses.total, expected)
    losses.total.backward()
    for (name, parameter), twin in zip(model.named_parameters(), plain.parameters(), strict=True):
        tolerance = {"rtol": 1e-6, "atol": 1e-7 * twin.grad.abs().max().item()}
        torch.testing.assert_close(parameter.grad, twin.grad, **tolerance, msg=name)


@pytest.mark.parametrize("options", [{"weight": 2.0}, {"on": "means", "iterations": "last"}], ids=str)
def test_lds_adds_its_penalty_of_every_decode(monkeypatch, options):
    prior, guesses = LDS(**options), []
    models = small(lds=options, recompute=options.get("on") == "means"), small()
    plain_guess = models[1]._guess
    monkeypatch.setattr(models[1], "_guess", lambda *a: guesses.append(plain_guess(*a)) or guesses[-1])
    losses = []
    for model in models:
        torch.manual_seed(1)
        losses.append(model.loss({"image": video()}))
    latents = [g.z if prior.on == "samples" else g.posterior.chunk(2, 1)[0] for g in guesses]
    penalties = [prior(z.unflatten(0, (2, 3))).mean() for z in latents]
    steps = [(i, n) for f in range(3) for n in [models[0].num_decodes(f)] for i in range(n)]
    counted = [(i + 1) / 4 * (prior.iterations == "all" or i == n - 1) for i, n in steps]
    expected = losses[1].total + sum(prior.weight * w * p for w, p in zip(counted, penalties, strict=True))
    torch.testing.assert_close(losses[0].total, expected)
    last = torch.stack([p for (i, n), p in zip(steps, penalties, strict=True) if i == n - 1]).mean()
    torch.testing.assert_close(losses[0].terms["lds"], last.detach())
    losses[0].total.backward(), expected.backward()
    for mine, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_lds_in_the_refinement_adds_its_gradient():
    model, without = small(lds={"weight": 3.0, "in_refinement": True}), small()
    x, prepared, gradients = video()[:, 0], model.decoder.prepare((8, 12)), []
    posterior = 0.3 * torch.randn(6, 10, dtype=torch.float64)
    for m in (model, without):
        torch.manual_seed(1)
        frame = m._frame(x, *m._start(2, 3), prepared)
        guess = m._guess(frame, posterior, None)
        gradients.append(m._gradients(frame, guess)[2])
    p = posterior.clone().requires_grad_()
    z = p[:, :5] + (0.5 * p[:, 5:]).exp() * guess.noise
    penalty = 3 * LDS()(z.unflatten(0, (2, 3))).sum()
    torch.testing.assert_close(gradients[0] - gradients[1], torch.autograd.grad(penalty, p)[0])


@pytest.mark.parametrize(("features", "total"), [("none", 2_846_212), ("squeeze", 2_977_940)])
def test_parameter_totals(features, total):
    assert sum(p.numel() for p in PROVIDE(features=features).parameters()) == total


def test_the_baseline_is_iodine_with_its_parameters_and_knows_no_earlier_frames():
    options = {"temporal": False, "conditional": False, "grid": "full"}
    assert sum(p.numel() for p in PROVIDE(**options, features="squeeze").parameters()) == 2_780_052
    model, x = small(**options), video()
    torch.manual_seed(0)
    first = model.decompose(x[:, 1:2])
    torch.manual_seed(0)
    again = model.decompose(x[:, 1:2].repeat(1, 2, 1, 1, 1))
    torch.testing.assert_close(first.masks[:, 0], again.masks[:, 0])
    prepared = model.decoder.prepare((8, 12))
    frame, other = (model._frame(x[:, 0], *(s + n for s in model._start(2, 3)), prepared) for n in (0, 1))
    posterior = model._posterior(6)
    refined = []
    for now in (frame, other):
        guess = model._guess(now, posterior, torch.zeros(6, 5, dtype=torch.float64))
        refined.append(model._refine(now, guess, *model._start(2, 3))[0])
    assert torch.equal(*refined)
    with pytest.raises(InputError, match="start is 'predicted', but with conditional=False nothing predicts"):
        small(start="predicted", conditional=False)
    with pytest.raises(
        InputError, match="motion is 2 with start 'learned'; it needs to be 0, or above 0 with 'predicted'"
    ):
        small(motion=2)
    with pytest.raises(InputError, match="temporal=False leaves nothing to condition on; set conditional=False"):
        small(temporal=False)


@pytest.mark.parametrize(("R", "totals"), [(6, (18, 30, 50, 70, 90)), (5, (14, 26, 46, 66, 86))])
def test_decode_counts(R, totals):
    model = PROVIDE(**SMALL | {"iterations": R})
    for frames, total in zip((4, 10, 20, 30, 40), totals, strict=True):
        assert sum(map(model.num_decodes, range(frames))) == total
    full = PROVIDE(**SMALL | {"iterations": R, "grid": "full"})
    assert sum(map(full.num_decodes, range(10))) == 10 * R


def test_weights_of_frames():
    model = PROVIDE(**SMALL | {"iterations": 6})
    weights = [sum(model._weight(f, i, n) for i in range(n)) for f, n in enumerate(map(model.num_decodes, range(6)))]
    assert weights == pytest.approx([3.5, 2.5, 10 / 6, 1, 0.5, 0.5])


def test_loss_counts_its_decodes(monkeypatch):
    model, calls = small(iterations=6), []
    forward = model.decoder.forward
    monkeypatch.setattr(model.decoder, "forward", lambda *inputs: calls.append(0) or forward(*inputs))
    model.loss({"image": video(4)})
    assert len(calls) == 18


def test_frames_start_at_what_the_prior_makes_of_the_one_before():
    model, x = small(start="predicted", resample=True), video(4, 1)
    opened, opening = [], model._opening
    model._opening = lambda frame, trail: opened.append((trail, frame, opening(frame, trail))) or opened[-1][2]
    with torch.no_grad():
        list(model.stream(x.unbind(1), horizon=2))
        model.loss({"image": x})
    for run in (opened[:6], opened[6:]):
        (nothing, _, learned), *later = run
        assert nothing == () and torch.equal(learned, model._posterior(3))
        for (before,), frame, start in later:
            change = model.prior[1](model.prior[0](frame.hidden).relu())
            torch.testing.assert_close(start[:, :5], before + change)
            assert torch.equal(start, torch.cat([frame.prior_mean, frame.prior_logvar], 1))


def test_the_prior_can_learn_alone():
    whole, alone = (small(start="predicted", motion=2, predicted_frames=2) for _ in range(2))
    for name, parameter in alone.named_parameters():
        parameter.requires_grad_(name.startswith(("prior", "momentum")))
    for model in (whole, alone):
        torch.manual_seed(1)
        model.loss({"image": video(5)}).total.backward()
    for (name, expected), (_, found) in zip(whole.named_parameters(), alone.named_parameters(), strict=True):
        assert torch.equal(found.grad, expected.grad) if found.requires_grad else found.grad is None, name


def test_a_change_that_goes_on_is_predicted_to_go_on():
    model = small(start="predicted", motion=2)
    torch.nn.init.eye_(model.momentum.weight)
    torch.nn.init.zeros_(model.prior[1].weight)
    torch.nn.init.zeros_(model.prior[1].bias)
    hidden, start, step = torch.randn(3, 6, 5, dtype=torch.float64).unbind(0)
    hidden = torch.cat([hidden, hidden[:, :1]], 1)
    for frames in (1, 2, 3):
        trail = tuple(start + f * step for f in range(frames))
        torch.testing.assert_close(model._prior(hidden, trail)[0], trail[-1] + step * (frames > 1))


def test_where_the_prior_expects_no_change_predictions_repeat_one_belief():
    model = small(start="predicted", resample=True, predict_z="prior_mean")
    changing = model.predict(video(), 2).slots
    torch.nn.init.zeros_(model.prior[1].weight)
    torch.nn.init.zeros_(model.prior[1].bias)
    still = model.predict(video(), 2).slots
    assert torch.equal(still[:, 0], still[:, 1]) and not torch.equal(changing[:, 0], changing[:, 1])


def test_kl_is_zero_where_posterior_equals_prior():
    model, x = small(), video()
    frame = model._frame(x[:, 0], *model._start(2, 3), model.decoder.prepare((8, 12)))
    guess = model._guess(frame, torch.cat([frame.prior_mean, frame.prior_logvar], 1), None)
    assert model._terms(frame, guess)[1].item() == pytest.approx(0)


def test_the_softplus_prior_has_variance_of_at_least_one():
    model = small()
    _, logvar = model._prior(torch.randn(50, 6, dtype=torch.float64))
    assert (logvar >= 0).all()


def test_masks_sum_to_one_and_prediction_is_finite():
    model = small()
    seen, future = model.decompose(video()), model.predict(video(), 4)
    assert seen.masks.shape == (2, 3, 3, 8, 12) and future.components.shape == (2, 4, 3, 3, 8, 12)
    for part in (seen, future):
        torch.testing.assert_close(part.masks.sum(2), torch.ones_like(part.masks[:, :, 0]))
        assert part.slots.isfinite().all() and part.components.isfinite().all()


def test_prediction_goes_on_from_the_observed_frames():
    model = small()
    torch.manual_seed(0)
    streamed = list(model.stream(video().unbind(1), horizon=2))
    torch.manual_seed(0)
    assert torch.equal(model.predict(video(), 2).masks[:, 1], streamed[-1].masks)
    torch.manual_seed(0)
    assert torch.equal(model.decompose(video()).masks[:, 2], streamed[2].masks)


def test_what_the_prior_predicts_can_be_decoded():
    model = small(predict_z="prior_mean")
    assert not torch.equal(model.predict(video(), 1).masks, small().predict(video(), 1).masks)


def test_slots_follow_their_first_sample(monkeypatch):
    model, order = small(), torch.tensor([2, 0, 1])
    noises = torch.randn(40, 6, 5, dtype=torch.float64)

    def decompose(noises):
        remaining = iter(noises)
        monkeypatch.setattr(torch, "randn_like", lambda _: next(remaining))
        return model.decompose(video())

    first = decompose(noises)
    second = decompose(noises.view(40, 2, 3, 5)[:, :, order].flatten(1, 2))
    torch.testing.assert_close(second.masks, first.masks[:, :, order])
    torch.testing.assert_close(second.slots, first.slots[:, :, order])


def test_any_number_of_slots_without_rebuilding():
    assert small().decompose(video(), num_slots=9).masks.shape == (2, 3, 9, 8, 12)
    assert small().predict(video(), 1, num_slots=1).masks.eq(1).all()


def test_streaming_keeps_no_graph():
    for decomposition in small().stream(video().unbind(1), horizon=1):
        assert not decomposition.masks.requires_grad and not decomposition.slots.requires_grad


def test_truncation_stops_gradients_between_frames():
    def gradient(truncate):
        model, x = small(truncate=truncate, adapt_weight=False), video(2)
        torch.manual_seed(1)
        model.loss({"image": x}).total.backward()
        return model.cell.time.weight.grad, model.cell.input.weight.grad

    (time_cut, input_cut), (time_whole, input_whole) = gradient(1), gradient(None)
    assert time_cut.abs().sum() > 0 and not torch.allclose(input_cut, input_whole)
    assert not torch.equal(time_whole, torch.zeros_like(time_whole))


@pytest.mark.parametrize(("nll", "beta"), [(700.0, 300.0), (300.0, 100.0), (100.0, 55.0)])
def test_the_weight_of_the_likelihood_follows_the_loss(nll, beta):
    model = small(likelihood_weight=55.0)
    model._adapt(torch.tensor(nll))
    assert model.beta.item() == beta and model.state_dict()["beta"].item() == beta


def test_evaluation_leaves_the_weight_alone():
    model = small(likelihood_weight=1.0).eval()
    model.loss({"image": video()})
    assert model.beta.item() == 1


@pytest.mark.parametrize("frames", [1, 3])
def test_terms_are_finite_and_named(frames):
    losses = small(entropy_weight=0.1).loss({"image": video(frames)})
    assert losses.terms.keys() == {"nll", "kl", "entropy"} and all(term.isfinite() for term in losses.terms.values())
    assert 0 <= losses.terms["entropy"] <= 96 * math.log(3)


def test_bf16_trains():
    model = PROVIDE(**SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss({"image": video().float()})
    losses.total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_saved_weights_hold_the_features(tmp_path):
    donor = PROVIDE(**SMALL | {"features": "squeeze"})
    file = tmp_path / "squeeze.pth"
    torch.save({f"features.{name}": value for name, value in donor.features.squeeze.state_dict().items()}, file)
    model = PROVIDE(**SMALL | {"features": "squeeze", "image_size": (64, 64)}, feature_weights=str(file))
    assert torch.equal(model.features.squeeze[0].weight, donor.features.squeeze[0].weight)
    model.save_pretrained(tmp_path / "model")
    file.unlink()
    loaded = PROVIDE.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.features.squeeze[0].weight, donor.features.squeeze[0].weight)
    assert loaded.decompose(torch.rand(1, 2, 3, 64, 64)).masks.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "squeeze", "feature_weights": "nowhere.pth"}, "nowhere.pth does not exist; leave it out"),
        ({"num_slots": 0}, "num_slots"),
        ({"variance": 0.0}, "variance"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        PROVIDE(**SMALL | options)


def test_foreign_feature_weights(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no weights of torchvision's squeezenet1_1; save its state_dict"):
        PROVIDE(**SMALL, features="squeeze", feature_weights=str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(2, 3, 8, 12), r"video must be a float tensor \(B, T, C, H, W\)"),
        (torch.rand(2, 3, 1, 8, 12), "has 1 channels but the model was built for 3"),
        (torch.rand(2, 3, 3, 12, 8), r"frames are \(12, 8\) but this model was built for image_size=\(8, 12\); resize"),
        (torch.full((2, 3, 3, 8, 12), 2.0), r"video must lie within \[0, 1\]"),
        (torch.rand(2, 0, 3, 8, 12), "is empty"),
    ],
)
def test_bad_videos(x, message):
    for use in (lambda: PROVIDE(**SMALL).loss({"image": x}), lambda: PROVIDE(**SMALL).decompose(x)):
        with pytest.raises(InputError, match=message):
            use()


def test_bad_uses():
    with pytest.raises(InputError, match="the video has no frames; give at least one"):
        list(small().stream([]))
    with pytest.raises(InputError, match="horizon is 0; there must be at least 1 frame to predict"):
        small().predict(video(), 0)
