"""SEQ-IODINE: PROVIDE's static baseline led through a video, against a plain loop written from the paper."""

import gc

import pytest
import torch
import torch.nn.functional as F

from plain_provide import PlainPROVIDE
from unscene import IODINE, PROVIDE, InputError, SequentialIODINE, load
from unscene.models.sequential_iodine import SequentialPROVIDE

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
STATIC = {"temporal": False, "conditional": False, "grid": "full"}


def video(frames=3, batch=2):
    return torch.rand(batch, frames, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def models(score="pre", clamp=None, **options):
    torch.manual_seed(0)
    static = PROVIDE(**SMALL | STATIC | options).double()
    return static, SequentialPROVIDE.from_static(static, score=score, clamp=clamp).double()


def seeded(function, *arguments, **options):
    torch.manual_seed(5)
    return function(*arguments, **options)


def textbook(static, frames, num_slots, score, clamp=float("inf"), horizon=0):
    """Masks, means and posterior means of each frame: autograd for all gradients, every frame from scratch."""
    plain, (B, T) = PlainPROVIDE(static), frames.shape[:2]
    m, frames, found = plain.model, list(frames.unbind(1)), []
    posterior = m.initial_posterior.expand(B * num_slots, -1)
    state = h, c = (posterior.new_zeros(len(posterior), m.head.in_features),) * 2

    def decoded(z):
        means, logits = plain.decode(z, h, B)
        return means, logits, logits.softmax(1), posterior.chunk(2, 1)[0].unflatten(0, (B, -1))

    for t in range(T + horizon):
        if t >= T:
            means, _, masks, slots = decoded(posterior.chunk(2, 1)[0])
            frames.append((masks[:, :, None] * means).sum(1))
            found.append((masks, means, slots))
        eps = torch.randn_like(posterior.chunk(2, 1)[0])
        means, logits, masks, slots = decoded(plain.sample(posterior, eps))
        if t < T and score == "pre":
            found.append((masks, means, slots))
        noise = None if t == 0 and not m.resample else eps  # PROVIDE's first sample is a constant
        gradients = plain.inner_gradients(frames[t], means, masks, posterior, noise, h, plain.prior(h))
        d_means, d_masks, d_posterior = (gradient.clamp(-clamp, clamp) for gradient in gradients)
        code = plain.encode(frames[t], means, logits, masks, d_means, d_masks)
        x = torch.cat([posterior, F.layer_norm(d_posterior, d_posterior.shape[1:]), code], 1)
        state = m.cell(x, state)
        posterior = (posterior + m.head(state[0]).clamp(-clamp, clamp)).detach()
        if t < T and score == "post":
            means, _, masks, slots = decoded(posterior.chunk(2, 1)[0])
            found.append((masks, means, slots))
    return [torch.stack(part, 1) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("score", ["pre", "post"])
@pytest.mark.parametrize(
    ("options", "clamp"),
    [({}, {}), ({}, {"clamp": 0.05}), ({"resample": True, "mixture": "pixel", "entropy_weight": 0.3}, {"clamp": 2.0})],
)
def test_equals_the_textbook(score, options, clamp):
    static, sequential = models(score, **clamp, **options)
    expected = seeded(textbook, static, video(4), 3, score, **clamp)
    d = seeded(sequential.decompose, video(4))
    for ours, theirs in zip((d.masks, d.components, d.slots), expected, strict=True):
        torch.testing.assert_close(ours, theirs.detach())


@pytest.mark.parametrize("score", ["pre", "post"])
def test_predicts_what_the_posterior_stands_for_with_another_number_of_slots(score):
    static, sequential = models(score, clamp=1.0)
    expected = seeded(textbook, static, video(), 7, score, 1.0, horizon=3)
    d = seeded(sequential.predict, video(), 3, num_slots=7)
    for ours, theirs in zip((d.masks, d.components, d.slots), expected, strict=True):
        torch.testing.assert_close(ours, theirs[:, 3:].detach())


def test_on_a_still_video_the_frames_are_the_iterations_of_the_baseline():
    static, sequential = models()
    image = video(1)
    d = seeded(sequential.decompose, image.expand(-1, 5, -1, -1, -1))
    for t in range(5):
        static.iterations = t + 1
        torch.testing.assert_close(seeded(static.decompose, image).masks[:, 0], d.masks[:, t])


def test_a_frame_reaches_its_own_score_only_after_it_was_seen():
    other = video().clone()
    other[:, 1] = 0.5
    for score, reached in (("pre", 2), ("post", 1)):
        _, sequential = models(score)
        first, second = (seeded(sequential.decompose, x).masks for x in (video(), other))
        assert torch.equal(first[:, :reached], second[:, :reached])
        assert not torch.allclose(first[:, reached], second[:, reached])


def test_clamping_bounds_raw_gradients_and_updates(monkeypatch):
    _, sequential = models(clamp=0.02)
    seen, refine = [], sequential._refine
    monkeypatch.setattr(sequential, "_refine", lambda *inputs: seen.append(inputs[-1]) or refine(*inputs))
    slots = seeded(sequential.decompose, video(4)).slots
    bounds = [gradient.abs().max().item() for gradients in seen for gradient in gradients]
    assert bounds == pytest.approx([0.02] * 12)  # of means, masks and posterior, all larger if left alone
    assert slots.diff(dim=1).abs().max().item() == pytest.approx(0.02)


def test_the_loss_is_that_of_the_baseline():
    static, sequential = models(clamp=0.02)
    ours, theirs = (seeded(model.loss, {"image": video()}).total for model in (sequential, static))
    assert torch.equal(ours, theirs)


def test_nothing_is_kept_from_frame_to_frame():
    def tensors():
        gc.collect()
        return sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects())

    alive = []
    for d in models("post")[1].stream(video(6).unbind(1), horizon=3):
        assert not any(x.requires_grad for x in (d.masks, d.components, d.slots))
        alive.append(tensors())
    assert len(set(alive[1:6])) == 1 and len(set(alive[7:])) == 1


def test_callers_may_be_in_inference_mode():
    static, sequential = models()
    for model in (static, sequential):
        expected = seeded(model.decompose, video()).masks
        with torch.inference_mode():
            assert torch.equal(seeded(model.decompose, video()).masks, expected)


def test_saved_and_loaded(tmp_path):
    static, _ = models(features="squeeze", image_size=(64, 64))
    static.float().save_pretrained(tmp_path / "static")
    model = SequentialPROVIDE.from_static(load(tmp_path / "static"), score="post", clamp=10.0)
    model.save_pretrained(tmp_path / "sequential")
    loaded = load(tmp_path / "sequential")
    assert type(loaded) is SequentialPROVIDE and (loaded.score, loaded.clamp) == ("post", 10.0)
    clip = torch.rand(1, 3, 3, 64, 64)
    ours, theirs = (seeded(m.decompose, clip).masks for m in (loaded, model))
    assert torch.equal(ours, theirs)
    before = SequentialPROVIDE.from_static(loaded, score="pre")
    assert (before.score, before.clamp, before.training) == ("pre", 10.0, False)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.from_static(PROVIDE(**SMALL)), "temporal is True, but a PROVIDE with a time axis follows objects"),
        (lambda m: m.from_static(IODINE()), "SequentialPROVIDE cannot be made from IODINE; give SequentialIODINE an"),
        (lambda m: SequentialIODINE.from_static(models()[0]), "SequentialIODINE cannot be made from PROVIDE; give"),
        (lambda m: SequentialPROVIDE(clamp=-1.0), "clamp is -1.0; it needs to be above 0"),
        (lambda m: m.decompose(video()[:, :, :2]), "has 2 channels but the model was built for 3"),
        (lambda m: m.decompose(video().mT), r"frames are \(12, 8\) but this model was built for image_size=\(8, 12\)"),
        (lambda m: m.decompose(video(), num_slots=0), "num_slots is 0"),
        (lambda m: list(m.stream([])), "the video has no frames; give at least one"),
    ],
)
def test_bad_uses(use, message):
    with pytest.raises(InputError, match=message):
        use(models()[1])
