"""VideoFolder: which videos it finds, which frames it takes, and what it refuses."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from toy_videos import random_frames, write_video
from unscene.data import Clips, Frames, HDF5Scenes, VideoFolder, save_hdf5
from unscene.data.preprocess import pixels_to_image, to_grayscale
from unscene.errors import InputError


def write_frames(folder, frames):
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i}.png")


@pytest.fixture
def folder(tmp_path):
    """Two files and a folder of frames, the video number being the seed of the pixels."""
    root = tmp_path / "videos"
    write_video(root / "v10.avi", random_frames(seed=2), "ffv1")
    write_video(root / "v2.mkv", random_frames(seed=0), "ffv1")
    write_frames(root / "v3", random_frames(seed=1))
    Image.new("RGB", (5, 5)).save(root / "thumbnail.png")
    write_video(root / ".trash" / "v0.avi", random_frames(), "ffv1")
    return root


def expected(seed, frames=slice(None)):
    return pixels_to_image(torch.from_numpy(random_frames(seed=seed)[frames].copy()))


def test_files_and_folders_in_natural_order(folder):
    dataset = VideoFolder(folder)
    assert [path.name for path in dataset.paths] == ["v2.mkv", "v3", "v10.avi"]
    assert len(dataset) == 3 and dataset.num_frames == 6
    assert dataset[0]["image"].shape == (6, 3, 16, 24) and dataset[0].keys() == {"image"}
    for i in range(3):
        assert torch.equal(dataset[i]["image"], expected(i))
    assert torch.equal(
        pickle.loads(pickle.dumps(dataset)).batch([2, 0])["image"], torch.stack([expected(2), expected(0)])
    )


def test_frames_and_stride(folder):
    assert torch.equal(VideoFolder(folder, frames=2, stride=3)[2]["image"], expected(2, slice(0, None, 3)))
    assert VideoFolder(folder, frames=4).num_frames == 4 and VideoFolder(folder, stride=4).num_frames == 2
    assert torch.equal(VideoFolder(folder, stride=4)[1]["image"], expected(1, slice(0, None, 4)))


def test_size_crop_and_gray(folder):
    assert VideoFolder(folder, image_size=8, crop="center")[0]["image"].shape == (6, 3, 8, 8)
    assert VideoFolder(folder, image_size=(4, 5), grayscale=True)[0]["image"].shape == (6, 1, 4, 5)
    assert torch.equal(VideoFolder(folder, grayscale=True)[1]["image"], to_grayscale(expected(1)))


def test_clips_and_single_frames_read_only_what_they_need(folder, monkeypatch):
    dataset = VideoFolder(folder, stride=2)
    clips, frames = Clips(dataset, 1), Frames(dataset)
    assert len(clips) == len(frames) == 9
    pairs = Clips(VideoFolder(folder), 2)
    monkeypatch.setattr(VideoFolder, "batch", None)
    assert torch.equal(clips[5]["image"], expected(1, slice(4, 5)))
    assert torch.equal(frames[5]["image"], expected(1, 4))
    assert torch.equal(pairs.batch([8, 1])["image"], torch.stack([expected(2, slice(4, 6)), expected(0, slice(2, 4))]))


def test_a_folder_of_frames_alone_is_one_video(tmp_path):
    write_frames(tmp_path / "v", random_frames())
    assert VideoFolder(tmp_path / "v").paths == [tmp_path / "v"]
    assert torch.equal(VideoFolder(tmp_path / "v")[0]["image"], expected(0))


def test_splits_by_folder(tmp_path):
    for i, name in enumerate(["train/a", "train/b", "test/c"]):
        write_frames(tmp_path / name, random_frames(seed=i))
    assert VideoFolder(tmp_path, split="test").paths == [tmp_path / "test" / "c"]
    assert VideoFolder(tmp_path).splits == {"train": 2, "test": 1} and len(VideoFolder(tmp_path)) == 3
    with pytest.raises(InputError, match="has no subfolder 'val'; its splits are train, test"):
        VideoFolder(tmp_path, split="val")


def test_splits_by_name(tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.mp4").touch()
    parts = {split: VideoFolder(tmp_path, split=split).paths for split in ("train", "val", "test")}
    assert sorted(sum(parts.values(), [])) == sorted(VideoFolder(tmp_path).paths)
    assert {split: len(paths) for split, paths in parts.items()} == VideoFolder(tmp_path).splits
    (tmp_path / "new.mp4").touch()
    assert set(parts["train"]) <= set(VideoFolder(tmp_path, split="train").paths)


def test_an_empty_split_is_explained(tmp_path):
    (tmp_path / "a.mp4").touch()
    empty = next(split for split in ("train", "val", "test") if split not in VideoFolder(tmp_path).splits)
    with pytest.raises(InputError, match=f"none of the 1 videos in .* fall into the '{empty}' split; use split=None"):
        VideoFolder(tmp_path, split=empty)


def test_different_lengths_and_sizes_name_two_videos(tmp_path):
    write_video(tmp_path / "a.avi", random_frames(3), "ffv1")
    write_video(tmp_path / "b.avi", random_frames(4), "ffv1")
    write_video(tmp_path / "c.avi", random_frames(3, height=32), "ffv1")
    dataset = VideoFolder(tmp_path)
    message = r"videos have different lengths \(a.avi has 3 frames, b.avi 4\); set frames"
    with pytest.raises(InputError, match=message):
        dataset.batch([0, 1])
    with pytest.raises(InputError, match=r"different sizes \(a.avi is 16 x 24, c.avi 32 x 24\); set image_size"):
        dataset.batch([0, 2])
    assert VideoFolder(tmp_path, frames=3, image_size=8).batch([0, 1, 2])["image"].shape == (3, 3, 3, 8, 8)
    with pytest.raises(
        InputError, match="a.avi is too short: 4 frames from frame 0 on, every 1, were asked for, it has 3"
    ):
        VideoFolder(tmp_path, frames=4)[0]


def test_videos_are_stored_and_come_back(folder, tmp_path):
    dataset = VideoFolder(folder)
    save_hdf5({"test": dataset}, tmp_path / "v.h5")
    stored = HDF5Scenes(tmp_path / "v.h5", "test")
    assert torch.equal(stored.batch([0, 1, 2])["image"], dataset.batch([0, 1, 2])["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames is 0 and stride 1; a clip has at least 1 frame, every 1st or further"),
        ({"stride": 0}, "frames is None and stride 0"),
        ({"crop": "center"}, "crop='center' is not possible; use 'center' together with image_size"),
        ({"image_size": (0, 3)}, r"image_size is \(0, 3\); give one number of pixels"),
    ],
)
def test_bad_options(folder, options, message):
    with pytest.raises(InputError, match=message):
        VideoFolder(folder, **options)


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(InputError, match="video folder .*gone does not exist"):
        VideoFolder(tmp_path / "gone")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"has no videos \(such as .mp4\) and no folders of frames \(such as .png\)"):
        VideoFolder(tmp_path)
