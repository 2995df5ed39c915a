import json
import re

import pytest
import torch

from toy_scenes import ToyModel, ToyVideoModel
from unscene.errors import InputError
from unscene.report import write_report
from unscene.report.run import span


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    ToyVideoModel(swap_at=4).save_pretrained(folder / "model")
    videos = {"class_path": "toy_scenes.ToyVideos", "init_args": {"num_scenes": 4, "num_frames": 6}}
    (folder / "config.yaml").write_text(json.dumps({"data": {"val": videos}}))
    return folder


def page(path):
    """Headings, text, number of pictures."""
    html = path.read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL))
    return re.findall("<h2>(.*?)</h2>", html), text, html.count("<img ")


def test_a_video_model_shows_filmstrips_and_predictions(run):
    state = torch.random.get_rng_state()
    headings, text, pictures = page(write_report(run))
    assert headings == ["Scores", "Training", "Videos", "Prediction", "Reproduce"]
    assert pictures == 3  # two filmstrips and the curves; there is no metrics.csv
    for words in (
        "the scores of 4 held-out videos only",
        "Slot stability 0.8 ",
        "FG-ARI per frame 1 ",
        "std over videos",
        "Held-out videos",
    ):
        assert words in text
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_static_model_shows_filmstrips_and_says_that_it_cannot_predict(run):
    ToyModel().save_pretrained(run / "model")
    headings, text, pictures = page(write_report(run))
    assert headings == ["Scores", "Training", "Videos", "Prediction", "Reproduce"]
    assert pictures == 2 and "ToyModel decomposes single images and cannot predict; use a video model" in text


def test_generalisation_to_other_data(run, monkeypatch):
    opened = []

    def open_dataset(name):
        from toy_scenes import ToyVideos

        opened.append(name)
        if name == "gone":
            raise InputError("cannot open 'gone'")
        return ToyVideos(2, 3)

    monkeypatch.setattr("unscene.report.run.open_dataset", open_dataset)
    headings, text, _ = page(write_report(run, ["more", "balls=5"]))
    assert headings[:2] == ["Scores", "Generalisation"] and opened == ["more", "balls"]
    assert "data slots ARI per frame FG-ARI per frame FG-ARI MOTA MSE n" in text
    assert "more 3 1 1 1 1 0 2 balls 5 1 1 1 1 0 2" in text
    for data, sentence in ((["gone"], "Cannot open &#39;gone&#39;."), (["balls=many"], "write NAME or NAME=K.")):
        headings, text, _ = page(write_report(run, data))
        assert "Generalisation" in headings and sentence in text


def test_a_third_of_a_video_is_predicted_at_most():
    assert [span(ToyVideoModel(), length) for length in (1, 2, 6, 40)] == [(1, 0), (1, 1), (4, 2), (30, 10)]
    assert span(ToyModel(), 6) == (6, 0)
