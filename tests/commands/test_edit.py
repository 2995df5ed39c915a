"""`unscene edit` as a user meets it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from toy_layers import Painted, hand_made
from toy_scenes import ToyModel
from unscene.cli import main
from unscene.commands.edit import apply, read_colour
from unscene.errors import InputError
from unscene.figures.colours import to_rgb
from unscene.models import sprite_scene as scenes

FILES = {"image.png", "before.png", "background.png", "layer_1.png", "layer_2.png", "panel.png", "info.json"}


@pytest.fixture(scope="module")
def model():
    """Two layers without an empty sprite, so that there is something to edit."""
    return hand_made(num_layers=2, empty_sprite=False)


@pytest.fixture
def weights(model, tmp_path):
    model.save_pretrained(tmp_path / "w")
    return str(tmp_path / "w")


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(to_rgb(Painted(1)[0]["image"])).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def pixels(path):
    return np.asarray(Image.open(path))


def test_without_edits_the_layers_are_written(weights, photo, tmp_path, capsys):
    assert main(["edit", weights, photo, "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "photo"
    assert capsys.readouterr().out == f"{folder}\n"
    assert {path.name for path in folder.iterdir()} == FILES
    info = json.loads((folder / "info.json").read_text())
    assert [row["layer"] for row in info["before"]] == [1, 2] and info["edits"] == {}
    assert info["before"] == info["after"] and info["before"][0]["area"] == pytest.approx((0.5 * 8 / 12) ** 2, rel=0.02)


def test_an_edited_image(weights, model, photo, tmp_path):
    edits = ["--swap", "1", "--move", "0.1", "-0.2", "--scale", "1.5", "--recolor", "#c33", "--order", "front"]
    assert main(["edit", weights, photo, "--layer", "2", *edits, "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "photo"
    assert {path.name for path in folder.iterdir()} == FILES | {"after.png"}
    image = Painted(1)[0]["image"][None]
    scene = model.parse(image)
    assert (pixels(folder / "before.png") == to_rgb(model.render(scene).reconstruction[0])).all()
    scene = scenes.swap(model, scene, 2, 1)
    scene = scenes.scale(model, scenes.move(model, scene, 2, (0.1, -0.2)), 2, 1.5)
    scene = scenes.reorder(model, scenes.recolour(model, scene, 2, (0.8, 0.2, 0.2)), 2, "front")
    expected = model.render(scene)
    np.testing.assert_allclose(pixels(folder / "after.png"), to_rgb(expected.reconstruction[0]), atol=1)
    np.testing.assert_allclose(pixels(folder / "layer_2.png")[..., 3], expected.masks[0, 2] * 255, atol=1)
    info = json.loads((folder / "info.json").read_text())
    assert info["layer"] == 2 and info["edits"]["move"] == [0.1, -0.2]
    assert info["after"][1]["sprite"] == 1 and info["after"][1]["centre"] == pytest.approx([0.1, -0.2])


def test_a_layer_is_deleted_and_its_room_taken_by_a_copy(weights, model, photo, tmp_path):
    out = str(tmp_path / "out")
    assert main(["edit", weights, photo, "--layer", "1", "--delete", "true", "--out", out]) == 0
    info = json.loads((tmp_path / "out" / "photo" / "info.json").read_text())
    assert [row["layer"] for row in info["after"]] == [2]
    scene = scenes.delete(model, model.parse(Painted(1)[0]["image"][None]), 1)
    copied = apply(model, scene, 2, {"duplicate": True, "move": [0.5, 0.5]})
    assert copied.sprite[0, 0] == scene.sprite[0, 1]
    centres, _ = scenes.places(model, copied)
    torch.testing.assert_close(centres[0, 0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(centres[0, 1], scenes.places(model, scene)[0][0, 1])


def test_sprites_without_a_position_are_moved_and_scaled(photo, tmp_path):
    """As those of the recipe for one's own images."""
    whole = {"sprite_size": None, "sprite_transforms": "color_projective", "layer_transforms": "identity"}
    model = hand_made(num_layers=1, empty_sprite=False, **whole)
    with torch.no_grad():
        model.sprite_masks.zero_()
        model.sprite_masks[..., 4:12, 4:12] = 1
    model.save_pretrained(tmp_path / "w")
    edits = ["--layer", "1", "--move", "0.1", "-0.2", "--scale", "1.5", "--out", str(tmp_path / "out")]
    assert main(["edit", str(tmp_path / "w"), photo, *edits]) == 0
    info = json.loads((tmp_path / "out" / "photo" / "info.json").read_text())
    before, after = info["before"][0], info["after"][0]
    assert before["centre"] == pytest.approx([-0.5, -1 / 3], abs=1e-6) and before["area"] == pytest.approx(64 / 768)
    assert after["centre"] == pytest.approx([0.1, -0.2]) and after["area"] == pytest.approx(2.25 * 64 / 768)
    opaque = pixels(tmp_path / "out" / "photo" / "layer_1.png")[..., 3] / 255
    assert opaque.mean() == pytest.approx(after["area"], rel=0.03)


def test_colours():
    assert read_colour("#c33", 3) == pytest.approx([0.8, 0.2, 0.2])
    assert read_colour("white", 1) == pytest.approx([1.0])
    assert read_colour("#ff0000", 1) == pytest.approx([0.299])
    with pytest.raises(InputError, match="'reddish' is no colour; give one as #c33, #cc3333 or red"):
        read_colour("reddish", 3)


def test_mistakes_end_in_one_sentence(weights, photo, tmp_path, capsys):
    def fails(*args):
        assert main(["edit", *args, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    ToyModel().save_pretrained(tmp_path / "toy")
    assert "has no layers to edit, as it holds a ToyModel" in fails(str(tmp_path / "toy"), photo)
    assert "image gone.png does not exist" in fails(weights, "gone.png")
    sentence = fails(weights, photo, "--swap", "1")
    assert "name the layer to edit with --layer; those that show something are 1, 2" in sentence
    assert "there is no layer 3" in fails(weights, photo, "--layer", "3", "--swap", "1")
    assert "there is no empty layer" in fails(weights, photo, "--layer", "1", "--duplicate", "true")
    wrong = fails(weights, photo, "--layer", "1", "--delete", "true", "--swap", "1")
    assert "a layer that is deleted cannot be edited too; leave out delete, or swap" in wrong
    assert "is no colour" in fails(weights, photo, "--layer", "1", "--recolor", "#xyz")
    assert "order: " in fails(weights, photo, "--layer", "1", "--order", "up")
    assert not (tmp_path / "out").exists()
