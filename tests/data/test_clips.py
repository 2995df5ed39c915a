"""Clips and single frames against slices of whole videos."""

import pytest
import torch

from unscene.data import Tetrominoes, collate
from unscene.data.bouncing_balls import BouncingBalls
from unscene.data.clips import Clips, Frames, WholeVideos
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError


class Counted(SceneDataset):
    """Three videos of 11 frames, all values telling video, object and frame; counts how many it has read."""

    splits = {"train": 3, "test": None}

    def __init__(self, labels=("mask", "factors", "visibility")):
        self.labels, self.read = labels, []

    def __len__(self):
        return 3

    def batch(self, indices):
        self.read += indices
        video, frame = torch.tensor(indices)[:, None], torch.arange(11)
        image = ((20 * video + frame) / 100)[:, :, None, None, None].expand(-1, -1, 1, 2, 3)
        mask = (frame >= 4).long()[None, :, None, None].expand(len(indices), -1, 2, 3)  # object 1 comes in frame 4
        place = 100 * video[:, :, None] + 50 * torch.arange(2)[:, None] + frame
        factors = {"place": place, "points": torch.stack([place, -place], -1), "size": 7 * video.expand(-1, 2)}
        visibility = torch.ones(len(indices), 2, dtype=torch.bool)
        labels = {"mask": mask, "factors": factors, "visibility": visibility}
        return {"image": image} | {name: labels[name] for name in self.labels}


def test_clips_are_consecutive_and_the_rest_is_not_used():
    clips = Clips(Counted(), 4)
    assert len(clips) == 6 and clips.num_frames == 4
    for i in range(6):
        video, start = divmod(i, 2)
        expected = (20 * video + 4 * start + torch.arange(4)) / 100
        assert torch.equal(clips[i]["image"][:, 0, 0, 0], expected)
        assert clips[i]["image"].shape == (4, 1, 2, 3) and clips[i]["mask"].shape == (4, 2, 3)


def test_factors_over_time_are_cut_and_others_are_not():
    factors = Clips(Counted(), 5)[3]["factors"]  # video 1, frames 5 to 9
    assert factors["place"].tolist() == [[105, 106, 107, 108, 109], [155, 156, 157, 158, 159]]
    assert torch.equal(factors["points"], torch.stack([factors["place"], -factors["place"]], -1))
    assert factors["size"].tolist() == [7, 7]


def test_visibility_is_that_of_the_clip_where_a_mask_tells():
    assert Clips(Counted(), 3).batch([0, 1])["visibility"].tolist() == [[True, False], [True, True]]
    assert Clips(Counted(("factors", "visibility")), 3)[0]["visibility"].tolist() == [True, True]
    assert Clips(Counted(()), 3)[0].keys() == {"image"}


def test_each_video_is_read_once_per_batch():
    dataset = Counted()
    clips = Clips(dataset, 2)
    dataset.read.clear()
    batch = clips.batch([11, 0, 14, 3])
    assert sorted(dataset.read) == [0, 2]
    torch.testing.assert_close(batch, collate([clips[i] for i in (11, 0, 14, 3)]))


def test_single_frames():
    frames = Frames(Counted())
    assert len(frames) == 33 and frames[25]["image"].shape == (1, 2, 3) and frames[25]["mask"].shape == (2, 3)
    assert frames[25]["image"][0, 0, 0] == (20 * 2 + 3) / 100  # 25 = 2 * 11 + 3
    assert frames[25]["factors"]["place"].tolist() == [203, 253]
    assert frames[25]["factors"]["points"].tolist() == [[203, -203], [253, -253]]
    assert frames[25]["factors"]["size"].tolist() == [14, 14]
    assert frames.batch([25, 26])["visibility"].tolist() == [[True, False], [False, True]]


def test_splits_are_counted_in_clips():
    assert Clips(Counted(), 4).splits == {"train": 6, "test": None}
    assert Frames(Counted()).splits == {"train": 33, "test": None}


@pytest.mark.parametrize("cut", [lambda data: Clips(data, 7), Frames])
def test_a_dataset_that_reads_clips_gives_the_same(cut):
    dataset = BouncingBalls(3, variant="6-8", colors=8, frames=25, collisions=True)
    fast, slow = cut(dataset), cut(dataset)
    slow._source = WholeVideos(dataset)
    indices = [0, 5, 2, 2, 7]
    torch.testing.assert_close(fast.batch(indices), slow.batch(indices), rtol=0, atol=0)
    assert slow._source.timed_factors == set(dataset.timed_factors)


def test_clips_as_long_as_the_videos_are_the_videos():
    dataset = BouncingBalls(3, frames=6)
    torch.testing.assert_close(Clips(dataset, 6)[2], dataset[2], rtol=0, atol=0)


@pytest.mark.parametrize("frames", [0, 12])
def test_clips_longer_than_the_videos_are_refused(frames):
    message = (
        f"cannot cut clips of {frames} frames from the videos of Counted, which have 11; set frames between 1 and 11"
    )
    with pytest.raises(InputError, match=message):
        Clips(Counted(), frames)


@pytest.mark.parametrize("cut", [lambda data: Clips(data, 2), Frames])
def test_images_are_refused(cut):
    message = (
        r"Tetrominoes holds images of shape \(3, 35, 35\), not videos .*; clips and frames can be cut from videos only"
    )
    with pytest.raises(InputError, match=message):
        cut(Tetrominoes(2))
