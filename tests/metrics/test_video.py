import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from unscene.errors import InputError
from unscene.metrics import fg_ari, frame_ari, frame_fg_ari, horizon_errors, running_mean, undefined_frames


@pytest.fixture
def labels():
    """True and predicted maps (2, 3, 6, 5); frame 1 of video 0 and all of video 1 have no foreground."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 4, (2, 3, 6, 5), generator=generator)
    pred = torch.where(torch.rand(true.shape, generator=generator) < 0.3, 1, true)
    true[0, 1], true[1] = 0, 0
    return true, pred


def sklearn_frames(true, pred, foreground):
    """[score of each frame], None where there is nothing to score."""
    pairs = [(t.flatten().numpy(), p.flatten().numpy()) for t, p in zip(true, pred, strict=True)]
    keep = [t > 0 if foreground else t >= 0 for t, _ in pairs]
    return [adjusted_rand_score(t[k], p[k]) if k.any() else None for (t, p), k in zip(pairs, keep, strict=True)]


def test_frame_scores_are_means_over_frames_of_single_images(labels):
    true, pred = labels
    expected = [np.mean(sklearn_frames(*video, foreground=False)) for video in zip(true, pred, strict=True)]
    torch.testing.assert_close(frame_ari(true, pred), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    first, undefined, last = sklearn_frames(true[0], pred[0], foreground=True)
    assert undefined is None
    scores = frame_fg_ari(true, pred)
    assert scores.dtype == torch.float64
    assert scores[0].item() == pytest.approx((first + last) / 2) and scores[1].isnan()


def test_undefined_frames_can_count_as_in_the_code_of_the_paper(labels):
    true, pred = labels
    first, _, last = sklearn_frames(true[0], pred[0], foreground=True)
    scores = frame_fg_ari(true, pred, undefined=1.0)
    assert scores[0].item() == pytest.approx((first + 1 + last) / 3) and scores[1] == 1
    assert undefined_frames(true).tolist() == [1, 3]


def test_only_the_score_of_the_whole_video_sees_a_slot_that_changes_its_object():
    true = torch.tensor([[[[0, 1, 2]], [[0, 1, 2]]]])
    pred = torch.tensor([[[[0, 1, 2]], [[0, 2, 1]]]])
    assert frame_ari(true, pred) == frame_fg_ari(true, pred) == 1
    assert fg_ari(true, pred) < 1


def test_horizon_errors_are_those_of_each_frame(labels):
    true, pred = labels
    generator = torch.Generator().manual_seed(1)
    video, reconstruction = torch.rand(2, 2, 3, 3, 6, 5, generator=generator)
    assert list(horizon_errors(video, reconstruction)) == ["mse"]
    errors = horizon_errors(video, reconstruction, true, pred)
    for name, foreground in (("ari", False), ("fg_ari", True)):
        expected = [sklearn_frames(*labels, foreground) for labels in zip(true, pred, strict=True)]
        np.testing.assert_allclose(errors[name], np.array(expected, dtype=float), atol=1e-12)
    assert errors["mse"].shape == (2, 3) and errors["mse"].dtype == torch.float64
    difference = video[1, 2].double() - reconstruction[1, 2].double()
    assert errors["mse"][1, 2].item() == pytest.approx((difference**2).mean().item())
    repeated = horizon_errors(video, reconstruction, last=video[:, 0])["mse_repeat"]
    assert (repeated[:, 0] == 0).all()
    assert repeated[1, 2].item() == pytest.approx((video[1, 2] - video[1, 0]).double().square().mean().item())


def test_running_mean_leaves_undefined_frames_out():
    nan = torch.nan
    scores = torch.tensor([[1.0, 3.0, nan, 8.0], [nan, 2.0, 4.0, nan]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 2.0, 2.0, 4.0], [nan, 2.0, 3.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(running_mean(scores), expected, equal_nan=True)


def test_bad_shapes_are_named():
    maps = torch.zeros(2, 3, 4, 5, dtype=torch.int64)
    for function in (frame_ari, frame_fg_ari):
        with pytest.raises(InputError, match=r"pred must be a label map \(B, T, H, W\) .*, got \(2, 2, 4, 5\)"):
            function(maps, maps[:, :2])
    with pytest.raises(InputError, match=r"video \(1, 2, 3, 4, 4\) and prediction \(1, 1, 3, 4, 4\) must have one"):
        horizon_errors(torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 1, 3, 4, 4))
