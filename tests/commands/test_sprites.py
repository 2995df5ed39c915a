"""`unscene sprites`, and `unscene decompose` with a sprite model, as a user meets them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from toy_layers import COLOURS, Painted, hand_made
from toy_scenes import ToyModel
from unscene import DTIClustering
from unscene.cli import main
from unscene.data import save_hdf5
from unscene.evaluation.sprite_usage import sprite_usage
from unscene.figures.colours import to_rgb


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """One layer, so that the images of Painted are told by their sprite."""
    folder = tmp_path_factory.mktemp("weights")
    hand_made(num_layers=1, empty_sprite=False).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def images(tmp_path):
    save_hdf5({"test": Painted(7)}, tmp_path / "painted.h5")
    return str(tmp_path / "painted.h5")


def test_sprites_become_pictures(weights, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("stays")
    assert main(["sprites", weights, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    names = {"gallery.png", "sprite_0.png", "sprite_1.png", "sprite_2.png", "background.png", "mine.txt"}
    assert {path.name for path in out.iterdir()} == names
    sprite = np.asarray(Image.open(out / "sprite_1.png"))
    assert sprite.shape == (12, 12, 4) and (sprite[6, 6] == [51, 204, 102, 255]).all() and not sprite[0, :, 3].any()
    assert np.asarray(Image.open(out / "background.png")).shape == (24, 32, 3)


def test_prototypes_are_opaque(tmp_path):
    DTIClustering(num_sprites=2, image_size=(8, 10)).save_pretrained(tmp_path / "w")
    assert main(["sprites", str(tmp_path / "w"), "--out", str(tmp_path / "out")]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "sprite_1.png")).shape == (8, 10, 3)
    assert not (tmp_path / "out" / "background.png").exists()


def test_how_often_images_have_them(weights, images, tmp_path, capsys):
    out, counts = tmp_path / "out", tmp_path / "counts.json"
    options = ["--data", images, "--limit", "5", "--batch_size", "2", "--json", str(counts)]
    assert main(["sprites", weights, "--out", str(out), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["sprite", "images", "share", "layers"]
    assert lines[-2:] == ["in 5 images", str(out)]
    told = json.loads(counts.read_text())
    assert told["num_images"] == 5 and sum(row["images"] for row in told["sprites"]) == 5
    assert [line.split()[1] for line in lines[1:4]] == [str(row["images"]) for row in told["sprites"]]


class Told(ToyModel):
    """Says what it is told of the sprites in two layers."""

    num_sprites = 3

    def decompose(self, image, *, num_slots=None):
        self.ids = [[-1, 0, 0], [-1, -1, 2], [-1, 1, 0]]
        return replace(super().decompose(image), sprite_ids=torch.tensor(self.ids[: len(image)]))


def test_layers_and_images_are_counted():
    usage = sprite_usage(Told(), Painted(3))
    assert (usage.layers.tolist(), usage.images.tolist(), usage.num_images) == ([3, 1, 1], [2, 1, 1], 3)
    assert usage.to_json()["sprites"][0] == {"sprite": 0, "layers": 3, "images": 2, "share": 2 / 3}
    assert usage.table().splitlines()[1].split() == ["0", "2", "66.7%", "3"]


def test_mistakes_end_in_one_sentence(weights, images, tmp_path, capsys):
    def fails(*args):
        assert main(["sprites", *args, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    ToyModel().save_pretrained(tmp_path / "toy")
    assert "has no sprites, as it holds a ToyModel; name weights of DTISprites" in fails(str(tmp_path / "toy"))
    assert "counts need images; name them with --data" in fails(weights, "--json", str(tmp_path / "x.json"))
    assert "the dataset holds videos or views" in fails(weights, "--data", "orbit")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file")
    assert "it is a file; name a folder" in fails(weights)


def test_decompose_writes_layers(weights, tmp_path, capsys):
    picture = Painted(1)[0]["image"]
    Image.fromarray(to_rgb(picture)).save(tmp_path / "picture.png")
    assert main(["decompose", weights, str(tmp_path / "picture.png"), "--out", str(tmp_path / "out")]) == 0
    assert "cropped to 24 x 32" in capsys.readouterr().err
    folder = tmp_path / "out" / "picture"
    labels = np.asarray(Image.open(folder / "labels.png"))
    assert set(np.unique(labels)) == {0, 1} and labels[12, 16] == 1
    layer = np.asarray(Image.open(folder / "slot_1.png"))
    assert layer[12, 16, 3] == 255 and (layer[12, 16, :3] == (255 * COLOURS).round().byte().numpy()).all(1).any()
