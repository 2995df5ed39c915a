"""The page that compares models: its table against their evaluations, and what it shows of videos and views."""

import json
import re

import pytest
import torch

from toy_scenes import ToyModel, ToyScenes, ToyVideoModel, ToyVideos
from toy_views import ToyMultiView, ToyViews
from unscene import IODINE
from unscene.cli import main
from unscene.errors import InputError
from unscene.evaluation import evaluate
from unscene.report import comparison
from unscene.report.comparison import compare_models, table


@pytest.fixture
def panels(monkeypatch):
    """What the figures show: (image, {title: Decomposition}, mask)."""
    shown, draw = [], comparison.comparison_panel

    def spy(*contents):
        shown.append(contents)
        return draw(*contents)

    monkeypatch.setattr(comparison, "comparison_panel", spy)
    return shown


def test_the_page_has_the_scores_and_pictures_of_all_models(tmp_path, panels):
    models = {"first": ToyModel(), "sec<b>ond": ToyModel(num_slots=4)}
    found = compare_models(models, ToyScenes(), tmp_path / "page.html", data="toys", command="a <b", num_shown=2)
    assert found["first"].values.keys() == evaluate(models["first"], ToyScenes()).values.keys()
    page = (tmp_path / "page.html").read_text()
    assert "2 models on toys" in page and "Means over 7 images" in page and "sec&lt;b&gt;ond" in page
    assert "<pre>a &lt;b</pre>" in page
    assert page.count('src="data:image/png;base64,') == page.count("src=") == 1
    for name in models:
        assert f"<td>{found[name].summary()['mse']['mean']:.3g}</td>" in page
    ((image, shown, mask),) = panels
    assert list(shown) == ["ToyModel 1", "ToyModel 2"] and len(image) == len(mask) == 2
    torch.testing.assert_close(shown["ToyModel 2"].components, models["sec<b>ond"].decompose(image).components)


def test_the_table_is_aligned():
    models = {"a": ToyModel(), "longer": ToyModel(num_slots=4)}
    found = {name: evaluate(model, ToyScenes()) for name, model in models.items()}
    first, *rest = table(models, found).splitlines()
    assert re.match(r"model +FG-ARI +ARI +mIoU .* MSE .* Slots +Parameters$", first)
    assert [line.split()[0] for line in rest] == ["a", "longer"] and {len(line) for line in rest} == {len(first)}
    assert rest[1].split()[-2:] == ["4", str(sum(p.numel() for p in models["longer"].parameters()))]


@pytest.mark.parametrize(
    ("models", "data", "kind"),
    [([ToyVideoModel(), ToyModel()], ToyVideos(), "videos"), ([ToyMultiView(), ToyModel()], ToyViews(), "scenes")],
    ids=["videos", "views"],
)
def test_of_videos_and_views_the_last_image_is_shown(models, data, kind, tmp_path, panels):
    models = {type(model).__name__: model for model in models}
    compare_models(models, data, tmp_path / "page.html", data="toys", num_shown=2)
    ((image, shown, mask),) = panels
    batch = data.batch(range(2))
    assert image.equal(batch["image"][:, -1]) and mask.equal(batch["mask"][:, -1])
    for decomposition in shown.values():
        torch.testing.assert_close(decomposition.reconstruction.shape, image.shape)
    assert next(iter(shown.values())).reconstruction.equal(image)
    text = (tmp_path / "page.html").read_text()
    assert f"Means over 3 {kind}" in text and {"videos": "last frame", "scenes": "last view"}[kind] in text


def test_data_without_masks(tmp_path, panels):
    class Unlabelled(ToyScenes):
        def batch(self, indices):
            return {"image": super().batch(indices)["image"]}

    found = compare_models({"toy": ToyModel()}, Unlabelled(), tmp_path / "page.html", data="toys")
    assert panels[0][2] is None and "ARI" not in table({"toy": ToyModel()}, found)


def test_a_model_that_does_not_fit_is_refused_before_anything_is_scored(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "evaluate", None)
    models = {"toy": ToyModel(), "runs/gray": IODINE(image_channels=1)}
    with pytest.raises(InputError, match="^runs/gray: "):
        compare_models(models, ToyScenes(), tmp_path / "page.html", data="toys")
    for few in ({}, {"num_shown": 0}):
        with pytest.raises(InputError, match=r"there are \d models and \d images to show; give at least 1 of both"):
            compare_models(models if few else {}, ToyScenes(), tmp_path / "page.html", data="toys", **few)
    assert not list(tmp_path.iterdir())


def test_the_command(tmp_path, capsys):
    for name in "ab":
        ToyModel().save_pretrained(tmp_path / name)
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    words = [str(tmp_path / name) for name in "ab"] + ["--out", str(page), "--json", str(scores), "--device", "cpu"]
    assert main(["compare", "tetrominoes", *words, "--limit", "3", "--images", "1", "--options.seed", "2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("model") and len(printed) == 4 and printed[-1] == str(page)
    assert [entry["meta"]["n"] for entry in json.loads(scores.read_text()).values()] == [3, 3]
    assert "2 models on tetrominoes" in page.read_text()
    command = re.search("<pre>unscene (.*)</pre>", page.read_text())[1]
    assert main([*command.split(), "--out", str(tmp_path / "again.html"), "--images", "1", "--device", "cpu"]) == 0
    assert (tmp_path / "again.html").read_text() == page.read_text()
