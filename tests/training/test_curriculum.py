"""The length curriculum: when stages end, what the loader yields, and that a resumed training knows of it."""

import pytest
import torch

from toy_scenes import ToyModel
from toy_training import assert_same_training, checkpoint, fit
from unscene.data import BouncingBalls
from unscene.data.clips import Clips
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.training import curriculum as module
from unscene.training.curriculum import LengthCurriculum, StagedClips, StageSampler
from unscene.training.data import SceneData
from unscene.training.module import seed_all
from unscene.training.run import RunFolder

STEPS = {"min_steps": 200, "max_steps": 1000, "window": 40, "patience": 100}


class Training:
    """Losses and KLs per slot in, stages out."""

    def __init__(self, curriculum):
        self.curriculum, self.step = curriculum, 0

    def run(self, steps, loss, kl=100.0):
        for _ in range(steps):
            self.step += 1
            value = loss(self.step) if callable(loss) else loss
            self.curriculum.record(self.step, torch.tensor([value, kl]))
        return self.curriculum.starts


def curriculum(**options):
    return LengthCurriculum((2, 3), (4, 2), **STEPS | options)


def test_a_stage_ends_when_the_loss_stagnates_but_not_before_its_minimum():
    assert Training(curriculum()).run(400, 7.0) == [0, 240]  # decided at 140: window and patience; then NOTICE
    assert Training(curriculum(min_steps=300)).run(400, 7.0) == [0, 300]
    late = Training(curriculum())
    late.run(300, lambda step: 1000.0 / step)
    assert late.run(300, 3.0)[1] in range(400 + 100, 460 + 100 + 1)  # window and patience have seen nothing new


def test_a_falling_loss_goes_on_until_the_maximum():
    assert Training(curriculum()).run(1500, lambda step: 0.99**step) == [0, 1000]


def test_a_collapsed_posterior_ends_it_too():
    falling = lambda step: 0.99**step  # noqa: E731
    assert Training(curriculum()).run(300, falling, kl=0.49) == [0, 200]
    assert Training(curriculum()).run(300, falling, kl=0.51) == [0]
    assert Training(curriculum()).run(300, falling, kl=float("nan")) == [0]


def test_the_last_stage_does_not_end():
    assert Training(curriculum()).run(3000, 7.0) == [0, 240]


def test_it_counts_from_the_beginning_of_each_stage():
    starts = Training(LengthCurriculum((2, 3, 4), (1, 1, 1), **STEPS)).run(1000, 7.0)
    assert starts == [0, 240, 480]


def test_stages_of_steps():
    c = curriculum()
    c.starts = [0, 200]
    assert [c.stage(step) for step in (0, 199, 200, 9999)] == [0, 0, 1, 1]


def test_batches_have_the_length_and_size_of_their_stage():
    videos = BouncingBalls(6, frames=7)
    c = curriculum()
    c.starts = [0, 5]
    order = {"seed": 3, "rank": 1, "world_size": 2}
    sampler = StageSampler(c, StagedClips(videos, c.frames), start=0, batches_per_step=2, **order)
    assert [len(sampler.batch(n)) for n in (0, 9, 10)] == [4, 4, 2]
    assert {frames for frames, _ in sampler.batch(9)} == {2} and {frames for frames, _ in sampler.batch(10)} == {3}
    first = StageSampler(c, StagedClips(videos, c.frames), start=0, batches_per_step=2, **order | {"rank": 0})
    both = [index for n in (10, 11, 12) for s in (first, sampler) for _, index in s.batch(n)]
    assert sorted(both) == list(range(12))  # each of the 6 videos gives 2 clips of 3 frames
    frames, index = sampler.batch(10)[0]
    expected = Clips(videos, 3)[index]["image"]
    assert torch.equal(StagedClips(videos, c.frames)[frames, index]["image"], expected)
    assert torch.equal(StagedClips(videos, c.frames).__getitems__([(frames, index)])["image"][0], expected)


class ToyVideos(SceneDataset):
    """Noise, reproducible per index; the model below averages over the frames."""

    def __len__(self):
        return 7

    def batch(self, indices):
        generators = [torch.Generator().manual_seed(int(i)) for i in indices]
        return {"image": torch.stack([torch.rand(6, 3, 4, 5, generator=g) for g in generators])}


class ToyVideoModel(ToyModel):
    def loss(self, batch, step):
        return super().loss({"image": batch["image"].mean(1) * batch["image"].shape[1] / 6}, step)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "NOTICE", 2)

    def train(run, steps, **options):
        stages = LengthCurriculum((2, 3), (3, 2), min_steps=3, max_steps=6, window=4, patience=4)
        data = SceneData(ToyVideos(), batch_size=3)
        seed_all(0)
        fit(run, steps, model=ToyVideoModel(), data=data, callbacks=[stages], **options)
        return stages

    assert train(tmp_path / "whole", 10).starts == [0, 6]
    train(tmp_path / "resumed", 5)  # decided on, not begun
    assert train(tmp_path / "resumed", 10, ckpt_path="last").starts == [0, 6]
    whole, resumed = (RunFolder(tmp_path / name) for name in ("whole", "resumed"))
    assert checkpoint(whole)["global_step"] == 10
    assert_same_training(whole, resumed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": (4, 10)}, "give a batch size for each clip length"),
        ({"frames": (), "batch_sizes": ()}, "give a batch size for each clip length"),
        ({"frames": (0,), "batch_sizes": (1,)}, "give a batch size for each clip length"),
        ({"min_steps": 50}, "needs 100 < min_steps <= max_steps and 4 <= window <= patience, got 50"),
        ({"patience": 10}, "window <= patience"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        LengthCurriculum(**{"frames": (4,), "batch_sizes": (2,)} | options)
