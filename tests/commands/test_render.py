"""`unscene render` as a user meets it."""

import json

import pytest
import torch

from toy_scenes import ToyModel
from toy_views import ToyMultiView, ToyViews
from unscene import InputError, MulMON
from unscene.cli import main
from unscene.commands.render import viewpoints
from unscene.data import save_hdf5
from unscene.data.viewpoints import expand_poses, normalise_cameras

TINY = {
    **{"image_size": (16, 16), "num_slots": 2, "iterations": 2, "latent_size": 3, "view_hidden": 4, "lstm_size": 5},
    **{"projector_hidden": 4, "decoder_channels": (4,), "refinement_channels": (4, 4), "refinement_mlp": (4,)},
}


@pytest.fixture
def scenes(tmp_path):
    save_hdf5({"test": ToyViews(2)}, tmp_path / "toy.h5")
    return str(tmp_path / "toy.h5")


@pytest.fixture
def weights(tmp_path):
    MulMON(**TINY | {"view_size": 1, "image_size": (8, 14), "refinement_channels": (4,)}).save_pretrained(
        tmp_path / "w"
    )
    return str(tmp_path / "w")


def test_a_viewpoint_on_the_command_line(weights, scenes, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--view", "-2.5", "7", "--index", "1", "--samples", "2", "--out", str(out)]
    assert main(["render", weights, scenes, *options]) == 0
    assert capsys.readouterr().out == f"{out / 'toy-1'}\n"
    info = json.loads((out / "toy-1" / "info.json").read_text())
    assert info["viewpoints"] == [[-2.5], [7.0]] and info["observed"] == [0, 1, 2, 3, 4]
    assert info["scene"] == f"scene 1 of {scenes}, split test"


def test_without_a_viewpoint_the_views_that_are_left(weights, scenes, tmp_path):
    out = tmp_path / "out"
    assert main(["render", weights, scenes, "--observe", "4", "--samples", "2", "--out", str(out)]) == 0
    assert json.loads((out / "toy-0" / "info.json").read_text())["viewpoints"] == [[2.0]]


def test_cameras_become_viewpoints():
    place = [0.0, 5.0, 3.0, 1.0, -1.0, 2.0]
    expected = torch.from_numpy(normalise_cameras(torch.tensor(place).view(2, 3).numpy()))
    torch.testing.assert_close(viewpoints(MulMON(**TINY), None, place), expected)
    pose = [0.1, 0.2, 0.3, 1.0, -0.5]
    expected = torch.from_numpy(expand_poses(torch.tensor(pose).view(1, 5).numpy()))
    torch.testing.assert_close(viewpoints(MulMON(**TINY, view_size=7), None, pose), expected)
    assert viewpoints(MulMON(**TINY), None, None) is None


@pytest.mark.parametrize(
    ("view", "camera", "message"),
    [
        ([1.0, 2.0], None, "view has 2 numbers; give 3 for each view"),
        (None, [1.0] * 4, "camera has 4 numbers; give 3 for each view"),
        ([1.0] * 3, [1.0] * 3, "view and camera are both given; give one of them"),
    ],
)
def test_wrong_numbers(view, camera, message):
    with pytest.raises(InputError, match=message):
        viewpoints(MulMON(**TINY), view, camera)


def test_a_camera_of_no_known_kind():
    with pytest.raises(InputError, match="viewpoints of 1 numbers are made of no known camera; give them as view"):
        viewpoints(ToyMultiView(), None, [1.0])


def test_mistakes_end_in_one_sentence(weights, scenes, tmp_path, capsys):
    def fails(*args):
        assert main(["render", *args, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "index is 2, but" in fails(weights, scenes, "--index", "2")
    assert "view: expected float" in fails(weights, scenes, "--view", "here")
    assert "the data has no viewpoints" in fails(weights, "shapes")
    ToyModel().save_pretrained(tmp_path / "toy")
    assert "ToyModel cannot show other views" in fails(str(tmp_path / "toy"), scenes, "--view", "1")
    assert not (tmp_path / "out").exists()
