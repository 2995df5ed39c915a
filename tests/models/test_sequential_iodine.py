"""IODINE led through a video: on a video of one repeated frame it must be IODINE itself."""

import pytest
import torch

from unscene import IODINE, InputError, SequentialIODINE, load

TINY = {
    "num_slots": 3,
    "iterations": 3,
    "latent_size": 5,
    "decoder_channels": (6,),
    "refinement_channels": (6, 8),
    "refinement_mlp": (9,),
    "lstm_size": 10,
}


def image():
    return torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def still(frames=4):
    return image().unsqueeze(1).expand(-1, frames, -1, -1, -1)


def models(**options):
    torch.manual_seed(0)
    static = IODINE(**TINY).double()
    return static, SequentialIODINE.from_static(static, **options).double()


def seeded(function, *arguments, **options):
    torch.manual_seed(1)
    return function(*arguments, **options)


def test_the_loss_of_a_still_video_is_that_of_its_image():
    static, sequential = models()
    expected = seeded(static.loss, {"image": image()})
    losses = seeded(sequential.loss, {"image": still(4)})
    torch.testing.assert_close(losses.total, expected.total)
    gradients = [
        torch.autograd.grad(x.total, tuple(m.parameters())) for x, m in ((expected, static), (losses, sequential))
    ]
    torch.testing.assert_close(*gradients)


def test_each_frame_is_scored_before_it_is_seen():
    static, sequential = models()
    history = seeded(static.decompose, image(), history=True).history
    decomposition = seeded(sequential.decompose, still(3))
    for t in range(3):
        torch.testing.assert_close(decomposition.masks[:, t], history[t].masks)
        torch.testing.assert_close(decomposition.slots[:, t], history[t].slots)


def test_or_after_it_was_seen():
    static, sequential = models(score="post")
    decomposition = seeded(sequential.decompose, still(1))
    expected = seeded(static.decompose, image(), iterations=1)
    torch.testing.assert_close(decomposition.masks[:, 0], expected.masks)


def test_the_frame_reaches_only_later_scores():
    _, sequential = models()
    video, other = still(3).clone(), still(3).clone()
    other[:, 1] = 0.5
    first, second = (seeded(sequential.decompose, x) for x in (video, other))
    assert torch.equal(first.masks[:, :2], second.masks[:, :2])
    assert not torch.allclose(first.masks[:, 2], second.masks[:, 2])


def test_clamping_bounds_the_update():
    static, sequential = models(clamp=1e-3)
    start = sequential.initial_posterior[:5]
    slots = seeded(sequential.decompose, still(5)).slots
    assert ((slots - start).abs() <= 5e-3 + 1e-9).all()
    assert not (seeded(static.decompose, image()).slots - start).abs().max() <= 5e-3
    assert sequential._limited(torch.tensor([-3.0, 4.0])).tolist() == pytest.approx([-1e-3, 1e-3])


def test_predictor_and_corrector_train_and_predict(tmp_path):
    torch.manual_seed(0)
    model = SequentialIODINE(head="predictor_corrector", **TINY)
    video = still(4).float()
    model.loss({"image": video}).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    future = model.predict(video, 3, num_slots=5)
    assert future.masks.shape == (2, 3, 5, 9, 11) and future.components.isfinite().all()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, SequentialIODINE)
    assert torch.equal(seeded(loaded.decompose, video).masks, seeded(model.eval().decompose, video).masks)


def test_gates_mix_correction_and_prediction():
    torch.manual_seed(0)
    model = SequentialIODINE(head="predictor_corrector", **TINY)
    posterior, delta = torch.randn(4, 10), torch.randn(4, 10)
    with torch.no_grad():
        model.gates.weight.zero_()
        model.gates.bias[:] = torch.tensor([30.0] * 10 + [-30.0] * 10)  # all of the update, none of the prediction
        torch.testing.assert_close(model._updated(posterior, delta), posterior + delta)
        model.gates.bias[:] = 30.0
        torch.testing.assert_close(model._updated(posterior, delta), model.predictor(posterior))
        model.gates.bias[:] = -30.0
        torch.testing.assert_close(model._updated(posterior, delta), posterior)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m: m.loss({"image": still(1)}), "the videos have only 1; give at least 2 frames"),
        (lambda m: m.loss({"image": image()}), r"video must be a float tensor \(B, T, C, H, W\)"),
        (lambda m: m.decompose(image()), r"video must be a float tensor \(B, T, C, H, W\)"),
        (lambda m: list(m.stream([])), "the video has no frames"),
        (lambda m: m.decompose(still(), num_slots=0), "num_slots"),
        (lambda m: SequentialIODINE(clamp=0.0), "clamp"),
    ],
)
def test_bad_input(use, message):
    with pytest.raises(InputError, match=message):
        use(models()[1])
