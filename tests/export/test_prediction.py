import json

import av
import numpy as np
import pytest
from PIL import Image

from toy_scenes import ToyModel, ToyVideoModel
from unscene.errors import InputError
from unscene.export import export_prediction
from unscene.figures import palette

FILES = ["errors.json", "errors.png", "film.gif", "film.mp4", "filmstrip.png", "info.json", "prediction.npz"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def load(path):
    return json.loads(path.read_text())


def test_every_file_holds_what_it_says(folder, pixels, tmp_path):
    out = export_prediction(ToyVideoModel(), folder, tmp_path / "out", observe=6, horizon=3, num_slots=4)
    assert out == tmp_path / "out" / "frames" and names(out) == FILES
    errors = load(out / "errors.json")
    assert errors["mse"] == {"at": [0.0] * 3, "mean": [0.0] * 3}  # it knows how things move
    still = np.square((pixels[6:9] - pixels[5].astype(float)) / 255).mean((1, 2, 3))
    np.testing.assert_allclose(errors["mse_repeat"]["at"], still, rtol=1e-5)
    assert load(out / "info.json") == {
        **{"predicted_video": str(folder), "method": "ToyVideoModel", "observe": 6, "horizon": 3, "known": 3},
        **{"fps": 10.0, "seed": 0, "num_slots": 4},
    }
    arrays = np.load(out / "prediction.npz")
    assert {name: array.shape for name, array in arrays.items()} == {
        **{"reconstruction": (3, 3, 8, 14), "real": (3, 3, 8, 14), "labels": (3, 8, 14), "slots": (3, 4, 1)},
    }
    np.testing.assert_array_equal(arrays["reconstruction"].transpose(0, 2, 3, 1) * 255, pixels[6:9])
    np.testing.assert_array_equal(arrays["real"], arrays["reconstruction"])
    with av.open(str(out / "film.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 9


def test_predicted_pictures_are_framed_and_what_is_unknown_is_gray(folder, pixels, tmp_path):
    out = export_prediction(ToyVideoModel(), folder, tmp_path / "out", observe=9, horizon=3)
    errors = load(out / "errors.json")["mse"]
    assert errors["at"] == [0.0, None, None] and errors["mean"] == [0.0, 0.0, 0.0]
    width = 14 * 24 + 8
    with Image.open(out / "film.gif") as gif:
        assert gif.n_frames == 12
        for t, frame in ((8, (255, 255, 255)), (9, tuple(palette(2)[1])), (11, tuple(palette(2)[1]))):
            gif.seek(t)
            shown = np.asarray(gif.convert("RGB"))
            assert tuple(shown[0, width]) == tuple(shown[-1, -1]) == frame and tuple(shown[0, 0]) == (255, 255, 255)
            real = shown[4:-4:24, 4 : width - 4 : 24]
            np.testing.assert_array_equal(real, pixels[t] if t < 10 else np.full_like(real, 128))


def test_nothing_to_compare_with(folder, tmp_path):
    out = export_prediction(ToyVideoModel(), folder, tmp_path / "out", observe=10, horizon=2)
    assert load(out / "errors.json") == dict.fromkeys(("mse", "mse_repeat"), {"at": [None] * 2, "mean": [None] * 2})
    assert "errors.png" not in names(out) and np.load(out / "prediction.npz")["real"].shape == (0, 3, 8, 14)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (ToyModel(), {}, "ToyModel decomposes single images and cannot predict; use a video model such as PROVIDE or"),
        (ToyVideoModel(), {}, "frames has 10 frames, fewer than the 20 to observe; lower observe"),
        (ToyVideoModel(), {"observe": 11}, "frames has 10 frames, fewer than the 11 to observe"),
        (ToyVideoModel(), {"observe": 0}, "observe is 0; the model needs at least 1 frame to start from"),
        (ToyVideoModel(), {"horizon": 0}, "horizon is 0; there must be at least 1 frame to predict"),
        (ToyVideoModel(), {"fps": -1}, "fps is -1"),
    ],
)
def test_bad_input(model, options, message, folder, tmp_path):
    with pytest.raises(InputError, match=message):
        export_prediction(model, folder, tmp_path / "out", **{"observe": 20} | options)
    assert not (tmp_path / "out").exists()
