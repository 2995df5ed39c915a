"""`unscene data generate` into a folder, and `verify`."""

import json

import pytest
import torch
from PIL import Image

from unscene.cli import main
from unscene.data import BouncingBalls, HDF5Scenes, ShardedScenes, Tetrominoes, shards
from unscene.data.rendering.probe import llvm_works


def fails_with(capsys, *arguments):
    """The sentence with which a command fails."""
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def generate(*arguments):
    return main(["data", "generate", *map(str, arguments), "--processes", "1"])


def test_a_folder_is_filled_and_goes_on(capsys, tmp_path):
    folder = tmp_path / "a"
    assert generate("tetrominoes", "--count", "20", "--seed", "3", "--out", folder) == 0
    assert capsys.readouterr().out == f"{folder}: 20 of 20 scenes\n"
    assert ShardedScenes(folder).splits == {"train": 16, "val": 2, "test": 2}
    expected = Tetrominoes(2, seed=3, split="val")
    assert torch.equal(ShardedScenes(folder, "val")[1]["image"], expected[1]["image"])
    assert generate("tetrominoes", folder, "--count", "30", "--options.seed", "3") == 0
    assert len(ShardedScenes(folder)) == 24
    assert "was made with seed = 3, not 4" in fails_with(
        capsys, "data", "generate", "tetrominoes", folder, "--count", 30, "--seed", 4
    )


def test_machines_make_their_shards(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "MOST_SCENES", 4)
    folder = tmp_path / "a"
    common = ["bouncing_balls/6-8", folder, "--train", 10, "--val", 0, "--test", 0, "--options.frames", 3]
    assert generate(*common, "--shard", "1/2") == 0
    assert capsys.readouterr().out == f"{folder}: 4 of 10 scenes\n"
    missing = fails_with(capsys, "data", "inspect", folder)
    assert "6 of the 10 scenes of split 'train' are missing" in missing
    command = missing[missing.index("`unscene") : missing.rindex("`")].removeprefix("`unscene ")
    assert main([*command.split(), "--shard", "0/2", "--processes", "1"]) == 0  # as it says
    assert capsys.readouterr().out == f"{folder}: 10 of 10 scenes\n"
    expected = BouncingBalls(10, variant="6-8", frames=3)
    assert torch.equal(ShardedScenes(folder)[9]["image"], expected[9]["image"])


def test_verify(capsys, tmp_path):
    folder, numbers = tmp_path / "a", tmp_path / "found.json"
    assert generate("tetrominoes", folder, "--train", 33, "--val", 0, "--test", 1) == 0
    capsys.readouterr()
    assert main(["data", "verify", str(folder), "--redraw", "3", "--json", str(numbers)]) == 0
    line = "complete: 34 scenes (train 33, test 1) in 3 parts; 3 drawn again, the same\n"
    assert capsys.readouterr().out == line
    assert json.loads(numbers.read_text())["complete"] is True
    (folder / "parts" / "train-000000.h5").unlink()
    (folder / "parts" / "test-000000.h5").write_text("no")
    assert main(["data", "verify", str(folder), "--json", str(numbers)]) == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 2 and "32 of the 33 scenes of split 'train' are missing" in out
    assert err.startswith(f"unscene: error: {folder} has 2 faults; delete the parts that are named and run")
    assert len(json.loads(numbers.read_text())["faults"]) == 2


def test_folders_are_inspected_and_converted(capsys, tmp_path):
    folder, sheet, file = tmp_path / "a", tmp_path / "a.png", tmp_path / "b.h5"
    assert generate("orbit", folder, "--count", 4, "--options.image_size", 16, "--options.views", 3) == 0
    assert main(["data", "inspect", str(folder), "--sheet", str(sheet), "--count", "2"]) == 0
    out = capsys.readouterr().out
    assert "ShardedScenes\nsplits     train:4\n" in out and "float32 (3, 3, 16, 16)" in out
    with Image.open(sheet) as picture:
        assert picture.width > 100
    assert main(["data", "convert", str(folder), str(file), "--splits", "train"]) == 0
    assert torch.equal(HDF5Scenes(file)[3]["mask"], ShardedScenes(folder)[3]["mask"])


def test_recipes_take_folders(capsys, tmp_path):
    assert generate("tetrominoes", tmp_path / "a", "--count", 10) == 0
    data = ["--data.train", "ShardedScenes", "--data.train.root", str(tmp_path / "a"), "--data.val", "null"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "iodine/tetrominoes", *data, "--print_config"])
    assert stop.value.code == 0 and "class_path: unscene.data.ShardedScenes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapes"], "generate needs a dataset and one file or folder, found shapes and 0 of these"),
        (["shapes", "a", "--out", "b"], "generate needs a dataset and one file or folder, found shapes and 2 of these"),
        (["shapes", "a", "b"], "found shapes and 2 of these"),
        (
            ["shapes", "a.h5", "--shard", "0/2"],
            "a.h5 is written by one process; name a folder for --shard and --proces",
        ),
        (["shapes", "a.hdf5", "--processes", "2"], "a.hdf5 is written by one process"),
        (["shapes", "a", "--shard", "2/2"], "shard '2/2' is out of range"),
        (["shapes", "a", "--processes", "0"], "processes is 0"),
        (["shapes", "a", "--count", "0"], "nothing to write to a: no splits"),
        (["squares", "a"], "there is no generator 'squares'; choose one of tetrominoes, "),
    ],
)
def test_bad_arguments(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails_with(capsys, "data", "generate", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_several_processes(capsys, tmp_path):
    folder = str(tmp_path / "a")
    assert main(["data", "generate", "shapes", folder, "--count", "60", "--processes", "2"]) == 0
    assert capsys.readouterr() == (f"{folder}: 60 of 60 scenes\n", "")
    assert main(["data", "verify", folder, "--redraw", "20"]) == 0


def test_options_of_rendered_data_have_names_of_their_own(capsys, tmp_path):
    folder = str(tmp_path / "a")
    refused = fails_with(
        capsys, "data", "generate", "clevr", folder, "--renderer", "blender", "--assets", str(tmp_path)
    )
    assert "blend" in refused and str(tmp_path) in refused
    refused = fails_with(capsys, "data", "generate", "shapes_mv", folder, "--meshes", str(tmp_path))
    assert f"{tmp_path} has no .ply or .obj files" in refused
    assert "Tetrominoes has no option 'meshes'" in fails_with(
        capsys, "data", "generate", "tetrominoes", folder, "--meshes", str(tmp_path)
    )


@pytest.mark.parametrize("target", ["a", "a.h5"])
def test_one_line_says_that_the_slower_renderer_draws(capsys, tmp_path, monkeypatch, target):
    monkeypatch.setenv("UNSCENE_LLVM_WORKS", "0")
    llvm_works.cache_clear()
    small = ["--options.image_size", "[12, 12]", "--options.samples", "1", "--count", "1"]
    one = ["--processes", "1"] if target == "a" else []
    try:
        assert main(["data", "generate", "clevr6", str(tmp_path / target), *small, *one]) == 0
    finally:
        llvm_works.cache_clear()
    notice = "rendering with Mitsuba's scalar variant; llvm takes half the time"
    assert capsys.readouterr().err.startswith(notice)
