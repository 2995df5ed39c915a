"""The command line as a user meets it: exit status, one sentence on stderr, files."""

import errno
import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from toy_scenes import ToyModel, ToyVideoModel, ToyVideos
from unscene.cli import main


@pytest.fixture
def weights(tmp_path):
    ToyModel().save_pretrained(tmp_path / "toy")
    return str(tmp_path / "toy")


def fails_with(capsys, *args):
    """The one line on stderr."""
    assert main(list(args)) == 2
    error = capsys.readouterr().err
    assert error.startswith("unscene: error: ")
    assert error.count("\n") == 1
    return error


def test_help_and_import_do_not_load_heavy_libraries():
    script = """
import sys, unscene, unscene.cli
try:
    unscene.cli.main(["--help"])
except SystemExit:
    pass
print({"torch", "lightning", "matplotlib", "sklearn", "h5py"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    for verb in ("train", "evaluate", "decompose", "predict", "render", "report", "recipes", "data"):
        assert f"\n    {verb} " in done.stdout


def test_importing_the_models_loads_neither_lightning_nor_figures():
    script = "import sys, unscene; unscene.IODINE, unscene.data, unscene.metrics; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for heavy in ("lightning", "matplotlib", "sklearn"):
        assert f"'{heavy}'" not in done.stdout


def test_without_arguments_there_is_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 0
    assert "usage: unscene" in capsys.readouterr().out


def test_mistakes_of_every_kind_end_in_one_sentence(capsys, weights, tmp_path):
    assert "invalid choice: 'evaluat'" in fails_with(capsys, "evaluat")
    assert "unrecognized arguments: --num_slot" in fails_with(capsys, "evaluate", "w", "d", "--num_slot", "3")
    assert "there is no recipe 'none'" in fails_with(capsys, "train", "none")
    assert "cannot open 'nothing'" in fails_with(capsys, "evaluate", weights, "nothing")
    assert "no such folder" in fails_with(capsys, "evaluate", "nothing", "tetrominoes")
    assert "does not exist" in fails_with(capsys, "decompose", weights, str(tmp_path / "no.png"))
    taken = str(tmp_path / "toy" / "config.json" / "out.json")
    assert "cannot write" in fails_with(capsys, "recipes", "--json", taken)
    assert "required: data\n" in fails_with(capsys, "evaluate", weights)
    assert "device 'foo' cannot be used" in fails_with(capsys, "evaluate", weights, "shapes", "--device", "foo")


def test_mistakes_in_what_to_inspect_end_in_one_sentence(capsys, tmp_path):
    def fails(*options):
        return fails_with(capsys, "data", "inspect", "shapes", *options)

    assert "option num_scenes of Shapes is 'many'" in fails("--options.num_scenes", "many")
    assert "count is 0" in fails("--sheet", str(tmp_path / "s.png"), "--count", "0")
    assert "end its name in one of .png" in fails("--sheet", "y.xyz")
    assert "image_size is 0" in fails_with(capsys, "data", "inspect", str(tmp_path), "--options.image_size", "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "unscene: error: No space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 2, "unscene: error: Permission denied: x\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_happens_around_the_program_needs_no_traceback(capsys, monkeypatch, error, status, sentence):
    def fail(_):
        raise error

    monkeypatch.setattr("unscene.cli._run", fail)
    assert main(["recipes"]) == status
    assert capsys.readouterr().err == sentence


def test_defects_keep_their_traceback(monkeypatch):
    def fail(_):
        raise OSError("no errno: nothing that the system said")

    monkeypatch.setattr("unscene.cli._run", fail)
    with pytest.raises(OSError, match="nothing that the system said"):
        main(["recipes"])


def test_lightnings_answer_to_ctrl_c_becomes_the_usual_status(monkeypatch):
    def stop(_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    monkeypatch.setattr("unscene.cli._run", stop)
    assert main(["train"]) == 130


def test_a_reader_that_goes_away_is_no_error():
    unscene = f"{sys.executable} -m unscene.cli"
    done = subprocess.run(
        ["bash", "-c", f"{unscene} recipes | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout in ("141\n", "0\n")  # 0 if it was quicker


def test_recipes_are_listed(capsys, tmp_path):
    assert main(["recipes", "--json", str(tmp_path / "r.json")]) == 0
    assert re.search(r"^iodine/tetrominoes +IODINE +Tetrominoes ", capsys.readouterr().out, re.MULTILINE)
    assert json.loads((tmp_path / "r.json").read_text())["iodine/tetrominoes"]["published"] == {"fg_ari": 0.992}


def test_evaluate_prints_a_table_and_writes_json(capsys, weights, tmp_path):
    out = tmp_path / "scores.json"
    options = ["--options.num_scenes", "4", "--batch_size", "2", "--device", "cpu", "--json", str(out)]
    assert main(["evaluate", weights, "tetrominoes", *options]) == 0
    assert "fg_ari" in capsys.readouterr().out
    scores = json.loads(out.read_text())["metrics"]
    assert scores["ari"]["n"] == 4
    assert not (tmp_path / "toy" / "evaluation.json").exists()


def test_evaluating_a_run_leaves_the_scores_there(weights, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "toy").rename(run / "model")
    assert main(["evaluate", str(run), "tetrominoes", "--limit", "2", "--device", "cpu"]) == 0
    assert json.loads((run / "evaluation.json").read_text())["metrics"]["mse"]["n"] == 2


def test_decompose_writes_a_folder_per_image(capsys, weights, tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (6, 5), "red").save(tmp_path / f"{name}.png")
    images = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert main(["decompose", weights, *images, "--out", str(tmp_path / "out")]) == 0
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["a", "b"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / name) for name in ("a", "b")]


@pytest.mark.parametrize("size", ["4", "[4,4]"])
def test_decompose_takes_one_size_or_two(weights, tmp_path, size):
    Image.new("RGB", (6, 5), "red").save(tmp_path / "a.png")
    out = tmp_path / "out"
    assert main(["decompose", weights, str(tmp_path / "a.png"), "--image_size", size, "--out", str(out)]) == 0
    with Image.open(out / "a" / "labels.png") as labels:
        assert labels.size == (4, 4)


def test_decompose_says_to_which_size_the_model_binds_it(capsys, monkeypatch, weights, tmp_path):
    monkeypatch.setattr(ToyModel, "image_size", (4, 3), raising=False)
    Image.new("RGB", (6, 5), "red").save(tmp_path / "a.png")
    assert main(["decompose", weights, str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == "images are resized and cropped to 4 x 3, all that this model takes\n"


def test_data_can_be_generated_converted_and_inspected(capsys, tmp_path):
    file, copy, sheet, numbers = (str(tmp_path / name) for name in ("new/s.h5", "c.h5", "sheets/s.png", "n.json"))
    assert main(["data", "generate", "shapes", file, "--train", "4", "--val", "0", "--test", "3"]) == 0
    assert main(["data", "convert", file, copy, "--splits", "test"]) == 0
    options = ["--split", "test", "--sheet", sheet, "--count", "2", "--json", numbers]
    assert main(["data", "inspect", copy, *options]) == 0
    assert json.loads((tmp_path / "n.json").read_text())["scenes"] == 3
    assert "splits" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert min(picture.size) > 50
    assert "no split" in fails_with(capsys, "data", "inspect", copy, "--split", "val").lower()


def test_report_prints_where_the_page_is(capsys, tmp_path):
    assert "name the folder of a training" in fails_with(capsys, "report", str(tmp_path / "absent"))


@pytest.fixture
def frames(tmp_path):
    """A folder of ten frames."""
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(ToyVideos(1, 10)[0]["image"].mul(255).byte().movedim(1, -1).numpy()):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t}.png")
    return str(tmp_path / "frames")


@pytest.fixture
def video_weights(tmp_path):
    ToyVideoModel().save_pretrained(tmp_path / "follower")
    return str(tmp_path / "follower")


def test_decompose_takes_videos_as_the_model_does(capsys, weights, video_weights, frames, tmp_path):
    out = tmp_path / "out"
    for model, options, name in (
        (video_weights, [], "frames"),
        (weights, ["--video", "true", "--fps", "5"], "frames"),  # again
        (weights, ["--image_size", "4"], "0"),
    ):
        assert main(["decompose", model, frames, "--out", str(out), *options]) == 0
        assert capsys.readouterr().out.splitlines()[0] == str(out / name)
    info = json.loads((out / "frames" / "info.json").read_text())
    assert (info["method"], info["followed"], info["fps"]) == ("ToyModel", False, 5)
    assert "name a video file or a folder of frames" in fails_with(
        capsys, "decompose", video_weights, f"{frames}/0.png"
    )


def test_predict_writes_a_folder(capsys, weights, video_weights, frames, tmp_path):
    out = str(tmp_path / "out")
    assert main(["predict", video_weights, frames, "--observe", "6", "--horizon", "3", "--out", out]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{out}/frames"]
    assert json.loads((tmp_path / "out" / "frames" / "errors.json").read_text())["mse"]["at"] == [0, 0, 0]
    assert "cannot predict; use a video model such as PROVIDE" in fails_with(capsys, "predict", weights, frames)
    assert "fewer than the 20 to observe" in fails_with(capsys, "predict", video_weights, frames)
    assert "horizon is 0" in fails_with(capsys, "predict", video_weights, frames, "--horizon", "0")


def test_evaluate_videos(capsys, video_weights, monkeypatch, tmp_path):
    monkeypatch.setattr("unscene.data.open_dataset", lambda *_: ToyVideos(), raising=False)
    out = tmp_path / "scores.json"
    options = ["--frames", "4", "--observe", "3", "--horizon", "2", "--json", str(out), "--device", "cpu"]
    assert main(["evaluate", video_weights, "toy", *options]) == 0
    printed = capsys.readouterr().out
    assert "slot_stability" in printed and "\nhorizon " in printed
    scores = json.loads(out.read_text())
    assert scores["meta"]["frames"] == 4 and len(scores["prediction"]["ari"]["at"]) == 2
