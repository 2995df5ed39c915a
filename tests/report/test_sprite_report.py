"""The report on a training of a sprite model."""

import json
import re

import pytest
import torch
import yaml

from toy_layers import hand_made, scene_of
from unscene import DTIClustering
from unscene.errors import InputError
from unscene.report import write_report
from unscene.report.run import Run
from unscene.report.sprites import SpriteRun, edited


def write_run(folder, model):
    model.save_pretrained(folder / "model")
    data = {"val": {"class_path": "toy_layers.Painted", "init_args": {"num_scenes": 7}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    (folder / "evaluation.json").write_text('{"metrics": {}, "meta": {}}')
    return folder


def read(folder):
    page = write_report(folder).read_text()
    return re.findall("<h2>(.*?)</h2>", page), page.count("data:image/png"), page


def test_layers_and_edits(tmp_path, monkeypatch):
    monkeypatch.setattr("unscene.report.run.NUM_SHOWN", 2)
    headings, pictures, page = read(write_run(tmp_path, hand_made(empty_sprite=False)))
    assert headings == ["Scores", "Training", "Sprites", "Layers", "Edits", "Reproduce"]
    assert pictures == 3 and "How often, in 7 held-out images" in page


def test_clusters_of_one_layer(tmp_path):
    folder = write_run(tmp_path, hand_made(num_layers=1, empty_sprite=False))
    figure = SpriteRun(Run(folder)).clusters()
    counted = [text.get_text() for text in figure.texts if "image" in text.get_text()]
    assert sum(int(text.split()[0]) for text in counted) == 7
    assert SpriteRun(Run(folder)).usage.images.tolist() == [int(text.split()[0]) for text in counted]


def test_prototypes_have_clusters_and_no_layers(tmp_path):
    model = DTIClustering(image_size=(24, 32), num_sprites=2)
    headings, pictures, _ = read(write_run(tmp_path, model))
    assert headings == ["Scores", "Training", "Sprites", "Clusters", "Reproduce"] and pictures == 2


def test_scores_of_classes_stand_beside_the_published_ones(tmp_path):
    folder = write_run(tmp_path, hand_made(num_layers=1, empty_sprite=False))
    meta = {"n": 7, "clustering": {"accuracy": 0.875, "nmi": None, "num_classes": 3, "num_clusters": 3}}
    (folder / "evaluation.json").write_text(json.dumps({"metrics": {}, "meta": meta}))
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {
        "about": {"published": {"clustering_accuracy": 0.9}}
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    _, _, page = read(folder)
    row = re.search("<td>Clustering accuracy</td>(.*?)</tr>", page, re.DOTALL).group(1)
    assert re.findall("<td>(.*?)</td>", row) == ["0.875", "–", "7", "0.9"]
    assert "<td>Clustering NMI</td><td>–</td>" in page and "num_classes" not in page


def test_images_without_sprites(tmp_path):
    run = Run(write_run(tmp_path, hand_made(penalty=1e6)))  # which no sprite is worth
    with pytest.raises(InputError, match="no layer of these images shows a sprite, so there is none to edit"):
        SpriteRun(run).manipulations()
    headings, pictures, page = read(tmp_path)
    assert "Edits" in headings and pictures == 2 and "No layer of these images shows a sprite" in page


def test_variants_are_those_that_the_model_knows():
    model = hand_made()
    scene = scene_of(model)
    rows = edited(model, scene, 2)
    assert {name: len(row) for name, row in rows.items()} == {"sprite": 3, "colour": 5, "position": 5, "scale": 5}
    whole = model.render(scene).reconstruction[0]
    torch.testing.assert_close(rows["sprite"][1], whole)  # what it is
    torch.testing.assert_close(rows["scale"][2], whole)
    torch.testing.assert_close(rows["position"][2], whole)
    plain = hand_made(image_channels=1, layer_transforms="position")
    scene = scene_of(plain)
    del scene.layer["color"]
    assert edited(plain, scene, 1).keys() == {"sprite", "position", "scale"}
