"""Videos by name and by path, and the commands of `unscene data` on them."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from toy_videos import random_frames, write_video
from unscene.cli import main
from unscene.data import CLEVRER, BouncingBalls, HDF5Scenes, ImageFolder, RNEMScenes, VideoFolder, open_dataset
from unscene.data.summary import format_summary, summarise
from unscene.errors import InputError


@pytest.mark.parametrize("variant", ["4", "6-8", "curtain"])
def test_bouncing_balls_by_name(variant):
    dataset = open_dataset(f"bouncing_balls/{variant}", seed=3, colors=8, frames=2)
    assert type(dataset) is BouncingBalls and len(dataset) == 320
    expected = BouncingBalls(320, seed=3, split="test", variant=variant, colors=8, frames=2)
    assert torch.equal(dataset[5]["image"], expected[5]["image"])


def test_bouncing_balls_without_variant():
    assert len(open_dataset("bouncing_balls", "train")) == 50_000
    assert open_dataset("bouncing_balls").variant == "4"
    with pytest.raises(InputError, match="unknown variant '5' of bouncing balls; choose one of 4, 6-8, curtain"):
        open_dataset("bouncing_balls/5")


def test_folders_of_videos(tmp_path):
    write_video(tmp_path / "a" / "clip.avi", random_frames(), "ffv1")
    dataset = open_dataset(tmp_path, None, frames=2, image_size=8)
    assert type(dataset) is VideoFolder and dataset[0]["image"].shape == (2, 3, 8, 8)
    (tmp_path / "a" / "clip.avi").rename(tmp_path / "a" / ".clip.avi")
    Image.fromarray(random_frames()[0]).save(tmp_path / "a" / "frame.png")
    assert type(open_dataset(tmp_path, None)) is ImageFolder  # a hidden video is none


def test_folders_of_frames_are_images_unless_asked_for_as_videos(tmp_path):
    for i, frame in enumerate(random_frames()):
        (tmp_path / "film").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "film" / f"{i}.png")
    assert type(open_dataset(tmp_path, None)) is ImageFolder
    for options in ({"frames": 6}, {"stride": 1}):
        dataset = open_dataset(tmp_path, None, **options)
        assert type(dataset) is VideoFolder and dataset[0]["image"].shape == (6, 3, 16, 24)


def test_clevrer_by_its_folders(tmp_path):
    write_video(tmp_path / "video_15000-16000" / "video_15000.mp4", np.zeros((2, 320, 480, 3), np.uint8))
    dataset = open_dataset(tmp_path, None, frames=2)
    assert type(dataset) is CLEVRER and dataset[0]["image"].shape == (2, 3, 64, 64)


def test_files_of_rnem(tmp_path):
    with h5py.File(tmp_path / "balls.h5", "w") as file:
        for group in ("training", "test"):
            file[f"{group}/features"] = file[f"{group}/groups"] = np.ones((3, 2, 64, 64, 1))
    dataset = open_dataset(tmp_path / "balls.h5", "train", grayscale=True)
    assert type(dataset) is RNEMScenes and dataset[1]["image"].shape == (3, 1, 64, 64)
    assert (
        main(["data", "generate", "shapes", str(tmp_path / "s.h5"), "--train", "2", "--val", "0", "--test", "0"]) == 0
    )
    assert type(open_dataset(tmp_path / "s.h5", "train")) is HDF5Scenes


def test_generate_convert_and_inspect(tmp_path, capsys):
    file, copy, sheet, numbers = (str(tmp_path / name) for name in ("a.h5", "b.h5", "a.png", "a.json"))
    few = ["--train", "0", "--val", "0", "--test", "3", "--options.frames", "5"]
    assert main(["data", "generate", "bouncing_balls/6-8", file, *few, "--options.colors", "8"]) == 0
    assert main(["data", "convert", file, copy, "--splits", "test"]) == 0
    capsys.readouterr()
    options = ["--split", "test", "--sheet", sheet, "--count", "2", "--json", numbers]
    assert main(["data", "inspect", copy, *options]) == 0
    assert "float32 (5, 3, 64, 64), 0 to 1" in capsys.readouterr().out
    summary = json.loads((tmp_path / "a.json").read_text())
    assert summary["factors"]["radius"]["range"] == pytest.approx([5.12, 6.4])
    assert set(summary["factors"]["collision"]["counts"]) == {"false", "true"}
    with Image.open(sheet) as picture:
        assert picture.width > picture.height > 100  # two filmstrips of five frames, each with its masks
    expected = BouncingBalls(3, split="test", variant="6-8", frames=5, colors=8).batch(range(3))
    stored = open_dataset(copy, "test").batch(range(3))
    torch.testing.assert_close(stored, expected, rtol=0, atol=0)


def test_folders_of_videos_convert(tmp_path, capsys):
    for split, seed in (("train", 0), ("test", 1)):
        write_video(tmp_path / "films" / split / "a.avi", random_frames(seed=seed), "ffv1")
    out = str(tmp_path / "films.h5")
    options = ["--splits", "train,test", "--options.frames", "4", "--options.image_size", "8"]
    assert main(["data", "convert", str(tmp_path / "films"), out, *options]) == 0
    expected = VideoFolder(tmp_path / "films", split="test", frames=4, image_size=8)
    assert torch.equal(HDF5Scenes(out, "test")[0]["image"], expected[0]["image"])


def test_summaries_look_at_objects_of_their_videos_only():
    summary = summarise(BouncingBalls(20, variant="6-8", frames=4))
    assert summary["image"]["shape"] == [4, 3, 64, 64]
    assert set(summary["objects"]) == {6, 7, 8}
    balls = sum(number * videos for number, videos in summary["objects"].items())
    assert sum(summary["factors"]["collision"]["counts"].values()) == 4 * balls
    assert summary["factors"]["mass"]["range"] == [1, 6]  # not the 0 of balls that are not there
    assert "velocity" in format_summary(summary)
