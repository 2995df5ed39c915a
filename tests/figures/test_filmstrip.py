import numpy as np
import pytest
import torch

from toy_scenes import ToyVideoModel, ToyVideos
from unscene.errors import InputError
from unscene.figures import filmstrip, horizon_curves, palette
from unscene.figures.grid import FRAME, GAP, LINE
from unscene.models.base import stack_frames
from unscene.scenes import Decomposition

SCALE = 12  # an 8 x 14 frame fills a cell of 96 pixels at this factor
PITCH_Y, PITCH_X = 8 * SCALE + 2 * FRAME + GAP, 14 * SCALE + 2 * FRAME + GAP


@pytest.fixture
def video():
    return ToyVideos(1, 10)[0]


def strip(video, observe, horizon, num_slots=3, **options):
    frames = video["image"][None, :observe].unbind(1)
    said = stack_frames(ToyVideoModel().stream(frames, num_slots=num_slots, horizon=horizon))
    said = Decomposition(said.masks[0], said.components[0], said.slots[0])
    return filmstrip(video["image"], said, **options)


def cell(figure, row, column):
    """The pixels (8, 14, 3) of one cell, and the colour of its frame with opacity."""
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    columns = len(titles(figure)[0])
    y = GAP + LINE + row * PITCH_Y
    x = canvas.shape[1] - (columns - column) * PITCH_X
    return canvas[y + FRAME :, x + FRAME :][: 8 * SCALE : SCALE, : 14 * SCALE : SCALE, :3], canvas[y, x]


def titles(figure):
    """Those of the columns, which begin with a number, and those of the rows."""
    texts = [text.get_text() for text in figure.texts]
    return [text for text in texts if text[0].isdigit()], [text for text in texts if not text[0].isdigit()]


def test_rows_are_input_reconstruction_segmentation_and_slots(video):
    figure = strip(video, 4, 0, num_slots=4, mask=video["mask"])
    rows = ["input", "true mask", "reconstruction", "segmentation", "slot 0", "slot 1", "slot 2", "slot 3"]
    assert titles(figure) == (["1", "2", "3", "4"], rows)
    pixels = video["image"].mul(255).byte().movedim(1, -1).numpy()
    for t in range(4):
        for row in (0, 2):
            np.testing.assert_array_equal(cell(figure, row, t)[0], pixels[t])
        for row in (1, 3):  # the toy model's slots have the numbers of the objects
            np.testing.assert_array_equal(cell(figure, row, t)[0], palette(3)[video["mask"][t].numpy()])
        slot, frame = cell(figure, 5, t)
        assert tuple(slot[0, t]) == (255, 0, 0) and tuple(frame) == (*palette(4)[1], 255)
    assert figure.artists == []


def test_without_slots_there_are_three_rows(video):
    assert titles(strip(video, 4, 0, slots=False))[1] == ["input", "reconstruction", "segmentation"]


def test_a_line_marks_where_prediction_starts_and_the_input_may_end_before(video):
    figure = strip(video, 6, 6, observed=6)
    columns, _ = titles(figure)
    assert columns == ["1", "2", "3", "5", "6", "7 (+1)", "8 (+2)", "9 (+3)", "11 (+5)", "12 (+6)"]
    (line,) = figure.artists
    width = np.asarray(figure.axes[0].images[0].get_array()).shape[1]
    assert line.get_xdata()[0] == pytest.approx(1 - (5 * PITCH_X + GAP / 2) / width, abs=1 / width)
    assert (cell(figure, 0, 7)[0][:3, 8:11] == (255, 0, 0)).all()
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert (canvas[GAP + LINE : LINE + PITCH_Y, -2 * PITCH_X :, 3] == 0).all()  # frames 11 and 12 are not known
    assert (cell(figure, 1, 8)[0][:3, 10:13] == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("observe", "horizon", "columns", "expected"),
    [
        (10, 0, 4, [1, 4, 7, 10]),
        (3, 0, 10, [1, 2, 3]),
        (1, 9, 4, [1, 2, 6, 10]),
        (9, 1, 4, [1, 5, 9, 10]),
        (5, 5, 2, [5, 6]),
        (10, 20, 3, [1, 10, 11]),
    ],
)
def test_ends_and_both_frames_beside_the_line_are_shown(video, observe, horizon, columns, expected):
    figure = strip(video, observe, horizon, observed=observe, columns=columns, slots=False)
    assert [int(title.split()[0]) for title in titles(figure)[0]] == expected


def test_bad_input(video):
    with pytest.raises(InputError, match="columns is 1; a filmstrip needs at least 2"):
        strip(video, 4, 0, columns=1)
    for observed in (0, 5):
        with pytest.raises(InputError, match=f"observed is {observed}, but the decomposition has 4 frames"):
            strip(video, 4, 0, observed=observed)


def test_curves_show_the_mean_over_videos():
    scores = {"mse": np.array([[0.1, 0.2, 0.4], [0.3, 0.6, 0.8]]), "fg_ari": np.array([[1.0, np.nan, 0.5]] * 2)}
    figure = horizon_curves(scores | {"ari": np.full((2, 3), np.nan)})
    assert [axes.get_title("left") for axes in figure.axes] == ["mse", "fg ari"]
    mse, fg_ari = (axes.lines[0] for axes in figure.axes)
    np.testing.assert_allclose(mse.get_ydata(), [0.2, 0.4, 0.6])
    np.testing.assert_array_equal(mse.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(fg_ari.get_xdata(), [1, 3])
    (mse,) = horizon_curves({"mse": scores["mse"], "mse_repeat": 2 * scores["mse"]}).axes  # one plot, two lines
    np.testing.assert_allclose(mse.lines[1].get_ydata(), [0.4, 0.8, 1.2])
    assert mse.get_ylim()[1] > 1.2 and [text.get_text() for text in mse.get_legend().get_texts()] == ["model", "repeat"]
    with pytest.raises(InputError, match="there are no errors of predictions to draw"):
        horizon_curves({"mse": np.full((1, 4), np.nan)})
    horizon_curves({"mse": torch.zeros(1, 1).numpy()}).canvas.draw()
