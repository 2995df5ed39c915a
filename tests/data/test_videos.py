"""Frames of small videos against the pixels that were written."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from toy_videos import random_frames, write_audio, write_video
from unscene.data.preprocess import pixels_to_image, to_grayscale
from unscene.data.videos import count_frames, frame_rate, iterate_frames, read_video
from unscene.errors import InputError


def exact(frames):
    return pixels_to_image(torch.from_numpy(np.asarray(frames)))


@pytest.fixture
def clip(tmp_path):
    frames = random_frames()
    return write_video(tmp_path / "a.avi", frames, "ffv1"), frames


def test_lossless_frames_come_back_exactly(clip):
    path, frames = clip
    video = read_video(path)
    assert video.shape == (6, 3, 16, 24) and video.dtype == torch.float32
    assert torch.equal(video, exact(frames))
    assert count_frames(path) == 6 and frame_rate(path) == 10


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mpg", "mpeg2video"), ("a.mkv", "mpeg4"), ("a.webm", "libvpx")]
)
def test_usual_formats(tmp_path, name, codec):
    frames = random_frames(height=64, width=96)
    path = write_video(tmp_path / name, frames, codec, rate=25)
    video = read_video(path)
    assert video.shape == (6, 3, 64, 96)
    assert (video - exact(frames)).abs().mean() < (0.01 if codec == "libx264" else 0.06)
    assert frame_rate(path) == 25


def test_gif(tmp_path):
    frames = random_frames()
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100, loop=0)
    assert (read_video(tmp_path / "a.gif") - exact(frames)).abs().mean() < 0.02


def test_frames_come_one_by_one_and_equal_the_whole(clip):
    path, _ = clip
    frames = iterate_frames(path, image_size=(8, 10), channels=1)
    assert next(frames).shape == (1, 8, 10)
    whole = read_video(path, (8, 10), 1)
    torch.testing.assert_close(torch.stack(list(frames)), whole[1:], rtol=0, atol=0)


def test_start_stride_and_number_of_frames(clip):
    path, frames = clip
    assert torch.equal(read_video(path, start=1, stride=2), exact(frames[1::2]))
    assert torch.equal(read_video(path, start=2, frames=3), exact(frames[2:5]))
    with pytest.raises(InputError, match=r"a.avi is too short: 3 frames from frame 2 on, every 2, were .* it has 2"):
        read_video(path, start=2, stride=2, frames=3)
    with pytest.raises(InputError, match="too short: a frame from frame 6 on"):
        read_video(path, start=6)


def test_size_and_channels(clip):
    path, frames = clip
    resized = [np.asarray(Image.fromarray(f).resize((12, 8), Image.Resampling.BILINEAR)) for f in frames]
    assert torch.equal(read_video(path, (8, 12)), exact(resized))
    central = [np.asarray(Image.fromarray(f[:, 4:20]).resize((8, 8), Image.Resampling.BILINEAR)) for f in frames]
    assert torch.equal(read_video(path, 8, crop="center"), exact(central))
    assert torch.equal(read_video(path, channels=1), to_grayscale(exact(frames)))


def test_a_folder_of_frames_in_natural_order(tmp_path):
    frames = random_frames(11)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame{i}.png")
    (tmp_path / "more").mkdir()
    Image.fromarray(frames[0]).save(tmp_path / "more" / "other.png")
    assert torch.equal(read_video(tmp_path), exact(frames))
    assert torch.equal(read_video(tmp_path, start=1, stride=4), exact(frames[1::4]))
    assert count_frames(tmp_path) == 11 and frame_rate(tmp_path) is None


def test_videos_lying_on_their_side_are_turned(tmp_path):
    """As phones store them: the matrix in the track header of an MP4 turns by 90 degrees clockwise."""
    frames = random_frames()
    path = write_video(tmp_path / "a.mp4", frames)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    assert struct.unpack_from(">9i", data, matrix) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 16 << 16, 0, 1 << 30)
    path.write_bytes(data)
    video = read_video(path)
    assert video.shape == (6, 3, 24, 16)
    assert (video - exact(np.rot90(frames, -1, axes=(1, 2)).copy())).abs().mean() < 0.01


def test_frames_that_change_their_size(tmp_path):
    small = write_video(tmp_path / "small.mpg", random_frames(3, 32, 32), "mpeg2video", container="mpegts")
    large = write_video(tmp_path / "large.mpg", random_frames(3, 48, 32), "mpeg2video", container="mpegts")
    both = tmp_path / "both.mpg"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    for i, size in enumerate([(4, 6), (4, 6), (6, 4)]):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.new("RGB", size[::-1]).save(tmp_path / "frames" / f"{i}.png")
    message = "frames change their size from 4 x 6 to 6 x 4 in frame 2; set image_size to resize them"
    with pytest.raises(InputError, match=message.replace("frames change", "frames of .*frames change")):
        read_video(tmp_path / "frames")
    with pytest.raises(InputError, match=r"both.mpg change their size from 32 x 32 to 48 x 32 in frame [23];"):
        read_video(both)
    assert read_video(both, 16).shape[1:] == (3, 16, 16)
    assert read_video(tmp_path / "frames", 5).shape == (3, 3, 5, 5)


def test_what_is_no_video_is_said(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    for name in ("text.mp4", "empty.mp4"):
        with pytest.raises(InputError, match=f"cannot read video .*{name}: Invalid data.*; if it is damaged get it"):
            read_video(tmp_path / name)
    with pytest.raises(InputError, match="video .*gone.mp4 does not exist; name a video file or a folder of frames"):
        read_video(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match="folder .*folder has no images"):
        read_video(tmp_path / "folder")
    (tmp_path / "folder" / "sub").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "folder" / "sub" / "a.png")
    with pytest.raises(InputError, match=r"folder .*folder has no frames .*; its subfolders are not read"):
        read_video(tmp_path / "folder")


def test_sound_alone_is_no_video(tmp_path):
    path = write_audio(tmp_path / "a.mp4")
    for read in (read_video, frame_rate, count_frames):
        with pytest.raises(InputError, match="a.mp4 has no video, only audio; name a file with pictures"):
            read(path)


def test_a_video_without_frames(tmp_path):
    path = write_video(tmp_path / "a.avi", random_frames(), "ffv1")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])  # the headers alone
    with pytest.raises(InputError, match="video .*a.avi has no frames; it is empty or damaged"):
        read_video(path)


def test_a_truncated_video_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", random_frames(20))
    path.write_bytes(path.read_bytes()[:-200])  # MP4 files end in what is needed to read them
    with pytest.raises(InputError, match="cannot read video .*a.mp4: Invalid data"):
        read_video(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels is 2; video frames have 3, or 1 in gray"),
        ({"crop": "center"}, "crop='center' is not possible; use 'center' together with image_size"),
        ({"crop": "left", "image_size": 8}, "crop='left' is not possible"),
        ({"stride": 0}, "start is 0 and stride 0; count frames from 0"),
        ({"start": -1}, "start is -1 and stride 1"),
        ({"image_size": 0}, "image_size is 0; give one number of pixels"),
    ],
)
def test_bad_options(clip, options, message):
    with pytest.raises(InputError, match=message):
        next(iterate_frames(clip[0], **options))


def test_memory_does_not_hold_the_video(tmp_path):
    """A frame is let go before the next is read."""
    path = write_video(tmp_path / "a.avi", random_frames(30), "ffv1")
    frames = iterate_frames(path)
    assert len({next(frames).data_ptr() for _ in range(30)}) < 30
