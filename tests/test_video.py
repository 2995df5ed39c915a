import pytest
import torch

from toy_scenes import ToyModel, ToyVideoModel, ToyVideos
from unscene.errors import InputError
from unscene.video import check_span, decompose_video, follow


class LooksAhead(ToyVideoModel):
    """Explains frame t when it has seen frame t + 1."""

    def stream(self, frames, *, num_slots=None, horizon=0):
        frames = iter(frames)
        last = next(frames)
        for frame in frames:
            yield self.explain(last, 3, False)
            last = frame
        yield self.explain(last, 3, False)


@pytest.fixture
def video():
    return ToyVideos(2, 5).batch(range(2))["image"]


@pytest.mark.parametrize("model", [ToyVideoModel(), LooksAhead()])
def test_every_decomposition_comes_with_its_frame(model, video):
    pairs = list(follow(model, video.unbind(1)))
    assert len(pairs) == 5
    for frame, decomposition in pairs:
        assert torch.equal(decomposition.reconstruction, frame)


def test_predicted_frames_have_no_real_one(video):
    frames = [frame for frame, _ in follow(ToyVideoModel(), video.unbind(1), horizon=2, num_slots=4)]
    assert [frame is None for frame in frames] == [False] * 5 + [True] * 2


def test_frames_are_asked_for_one_by_one(video):
    asked = []
    frames = (asked.append(t) or frame for t, frame in enumerate(video.unbind(1)))
    for t, _ in enumerate(follow(ToyVideoModel(), frames)):
        assert asked == list(range(t + 1))


def test_a_static_model_decomposes_frame_by_frame(video):
    model = ToyModel()
    decomposition = decompose_video(model, video)
    assert decomposition.masks.shape == (2, 5, 3, 8, 14)
    assert torch.equal(decomposition.components[:, 3], model.decompose(video[:, 3]).components)


def test_what_cannot_be_predicted(video):
    with pytest.raises(
        InputError, match="ToyModel decomposes single images and cannot predict; use a video model such"
    ):
        list(follow(ToyModel(), video.unbind(1), horizon=1))
    check_span(1, 1)
    for observe, horizon, message in ((0, 1, "observe is 0"), (1, 0, "horizon is 0; there must be at least 1 frame")):
        with pytest.raises(InputError, match=message):
            check_span(observe, horizon)
