import errno
import gc
import json
import weakref

import av
import numpy as np
import pytest
import torch
from PIL import Image

from toy_scenes import ToyModel, ToyVideoModel
from unscene.errors import InputError
from unscene.export import export_video, is_video
from unscene.export.film import Film
from unscene.figures import palette

FILES = ["film.gif", "film.mp4", "info.json", "slot_0.mp4", "slot_1.mp4", "slot_2.mp4", "tracks.csv", "tracks.npz"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def film(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_every_file_holds_what_it_says(folder, pixels, tmp_path):
    out = export_video(ToyVideoModel(), folder, tmp_path / "out", seed=3)
    assert out == tmp_path / "out" / "frames" and names(out) == FILES
    assert json.loads((out / "info.json").read_text()) == {
        **{"video": str(folder), "method": "ToyVideoModel", "frames": 10, "size": [8, 14]},
        **{"fps": 10.0, "followed": True, "seed": 3},
    }
    factor, gap = 24, 4
    height, width = 8 * factor + 2 * gap, 14 * factor + 2 * gap
    with Image.open(out / "film.gif") as gif:
        assert gif.size == (3 * width, height) and gif.n_frames == 10
        gif.seek(9)
        shown = np.asarray(gif.convert("RGB"))
    parts = [shown[gap:-gap:factor, x + gap : x + width - gap : factor] for x in (0, width, 2 * width)]
    for part in parts[:2]:  # input and reconstruction
        np.testing.assert_array_equal(part, pixels[9])
    red = (palette(2)[1].astype(int) + (255, 0, 0)) / 2
    np.testing.assert_allclose(parts[2][0, 9], red, atol=0.6)
    assert film(out / "film.mp4").shape == (10, height, 3 * width, 3)
    slot = film(out / "slot_1.mp4")[9].astype(int)  # of which all but the red block is black
    expected = (pixels[9] * [1, 0, 0]).repeat(factor, 0).repeat(factor, 1)
    assert abs(slot[gap:-gap, gap:-gap] - expected).mean() < 3
    tracks = np.load(out / "tracks.npz")
    assert tracks["labels"].shape == (10, 8, 14) and tracks["slots"].shape == (10, 3, 1)
    red_block = tracks["object"] == 1
    np.testing.assert_array_equal(tracks["box"][red_block], [[t, 0, t + 3, 3] for t in range(10)])
    np.testing.assert_array_equal(tracks["centre"][red_block], [[t + 1, 1] for t in range(10)])


def test_films_have_the_rate_of_the_file(gif, tmp_path):
    for options, fps in (({}, 5), ({"fps": 12.5}, 12.5)):
        out = export_video(ToyVideoModel(), gif, tmp_path / "out", **options)
        assert out.name == "toy" and json.loads((out / "info.json").read_text())["fps"] == fps
        with av.open(str(out / "film.mp4")) as container:
            assert float(container.streams.video[0].average_rate) == fps


def test_static_models_take_frame_by_frame(gif, tmp_path):
    out = export_video(ToyModel(), gif, tmp_path / "out", image_size=[6, 8])
    info = json.loads((out / "info.json").read_text())
    assert info["followed"] is False and info["size"] == [6, 8] and info["frames"] == 10
    assert np.load(out / "tracks.npz")["labels"].shape == (10, 6, 8)


def test_frames_are_forgotten_while_the_video_is_read(folder, tmp_path, monkeypatch):
    alive, most = [], []

    class Watched(ToyVideoModel):
        def explain(self, frame, num_slots, swapped):
            decomposition = super().explain(frame, num_slots, swapped)
            alive.append(weakref.ref(decomposition.components))
            gc.collect()
            most.append(sum(reference() is not None for reference in alive))
            return decomposition

    export_video(Watched(), folder, tmp_path / "out")
    assert len(alive) == 10 and max(most) <= 2


def test_redoing_a_video_replaces_its_folder_and_another_one_gets_its_own(gif, folder, tmp_path):
    out = tmp_path / "out"
    export_video(ToyVideoModel(), gif, out, num_slots=5)
    first = export_video(ToyVideoModel(), gif, out)
    assert names(first) == FILES
    twin = folder.rename(tmp_path / "toy")
    assert export_video(ToyVideoModel(), twin, out).name == "toy-2"
    assert names(out) == ["toy", "toy-2"]


def test_noise_comes_from_the_seed_and_the_random_state_is_left_alone(gif, tmp_path):
    class Noisy(ToyVideoModel):
        def explain(self, frame, num_slots, swapped):
            decomposition = super().explain(frame, num_slots, swapped)
            decomposition.slots.copy_(torch.rand_like(decomposition.slots))
            return decomposition

    def slots(seed):
        return np.load(export_video(Noisy(), gif, tmp_path / "out", seed=seed) / "tracks.npz")["slots"]

    state = torch.random.get_rng_state()
    np.testing.assert_array_equal(slots(1), slots(1))
    assert (slots(1) != slots(2)).all()
    assert torch.equal(state, torch.random.get_rng_state())


def test_failure_leaves_nothing_half_written(folder, gif, tmp_path, monkeypatch):
    out = tmp_path / "out"
    Image.new("RGB", (5, 5)).save(folder / "10.png")  # the eleventh frame is of another size
    with pytest.raises(InputError, match="the frames of .* change their size from 8 x 14 to 5 x 5"):
        export_video(ToyVideoModel(), folder, out)
    assert not out.exists() or names(out) == []

    def full_disk(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(InputError, match="cannot write .*out/toy: No space left on device; make room"):
        export_video(ToyVideoModel(), gif, out)
    assert names(out) == []


class TooWide(ToyVideoModel):
    def explain(self, *_):
        raise InputError("too wide")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (ToyVideoModel(), {"iterations": 3}, "ToyVideoModel does not take iterations"),
        (ToyVideoModel(), {"num_slots": 257}, "num_slots is 257; label maps can tell 256 slots apart"),
        (ToyVideoModel(), {"fps": 0}, "fps is 0; give frames per second above 0"),
        (ToyVideoModel(), {"image_size": 0}, "image_size is 0; give one number of pixels"),
        (TooWide(), {}, "toy.gif: too wide"),
    ],
)
def test_bad_options(model, options, message, gif, tmp_path):
    with pytest.raises(InputError, match=message):
        export_video(model, gif, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


def test_bad_videos(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    with av.open(str(tmp_path / "sound.mp4"), "w") as sound:
        stream = sound.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        sound.mux(stream.encode(silence))
        sound.mux(stream.encode())
    for name, message in (
        ("text.mp4", "cannot read video .*text.mp4"),
        ("empty", "empty has no images"),
        ("gone.mp4", "video .*gone.mp4 does not exist"),
        ("sound.mp4", "sound.mp4 has no video, only audio"),
    ):
        with pytest.raises(InputError, match=message):
            export_video(ToyVideoModel(), tmp_path / name, tmp_path / "out")
    with Film(tmp_path / "large.gif", 10) as large:
        large.write(np.zeros((300, 219, 3), np.uint8))
    with pytest.raises(InputError, match="large.gif has 300 x 219 pixels, .*give --image_size"):
        export_video(ToyVideoModel(), tmp_path / "large.gif", tmp_path / "out")
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="cannot write to .*out: it is a file"):
        export_video(ToyVideoModel(), tmp_path / "large.gif", tmp_path / "out", image_size=8)


def test_what_is_a_video_depends_on_the_model(gif, folder, tmp_path):
    still, picture = tmp_path / "still.gif", folder / "0.png"
    Image.new("RGB", (5, 5)).save(still)
    static, follows = ToyModel(), ToyVideoModel()
    assert [is_video(path, static) for path in (gif, folder, still, picture, "x.MP4")] == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert is_video(folder, static, folders=True)
    assert [is_video(path, follows) for path in (gif, folder, still, "x.mp4")] == [True] * 4
    with pytest.raises(InputError, match=r"0.png is no video \(.avi, .*name a video file or a folder of frames"):
        is_video(picture, follows)
