"""One command trains pairs with and without the prior, scores them, and takes up where it was stopped."""

import json

import numpy as np
import pytest

from unscene.cli import main
from unscene.commands import experiment as module
from unscene.evaluation.compare import compare
from unscene.training.run import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
TRAIN = (
    "--trainer.max_steps 2 --trainer.accelerator cpu --trainer.devices 1 --trainer.enable_progress_bar false "
    "--data.batch_size 2 --data.train.num_scenes 4 --data.val null --model.iterations 1 --model.latent_size 4 "
    "--model.decoder_channels [4] --model.decoder_strides [1,2] --model.refinement_channels [4] "
    "--model.refinement_mlp [4]"
)


def experiment(run, *more):
    sizes = ["--limit", "4", "--gap_limit", "2", "--gap_samples", "3"]
    return main(
        ["experiment", "iodine/tetrominoes-cpu", "tetrominoes", f"--train={TRAIN}", "--run", str(run), *sizes, *more]
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    run = tmp_path_factory.mktemp("experiment")
    assert experiment(run, "--seeds", "0", "1", "--test_slots", "3", "4") == 0
    return run


def test_trains_a_pair_for_each_seed_and_compares_it(done, capsys):
    names = {path.name for path in done.iterdir() if path.is_dir()}
    assert names == {"plain-seed0", "plain-seed1", "lds-seed0", "lds-seed1"}
    configs = {name: json.loads((done / name / "model" / "config.json").read_text()) for name in names}
    assert configs["plain-seed0"]["lds"] is None and configs["lds-seed1"]["lds"] == {"weight": 1.0}
    tables = json.loads((done / "experiment.json").read_text())
    assert list(tables) == [f"lds, trained with K = recipe, tested with K = {k}" for k in (3, 4)]
    scores = [
        [dict(np.load(done / f"{name}-seed{seed}" / "scores-3.npz")) for name in ("plain", "lds")] for seed in (0, 1)
    ]
    pairs = [compare(*of_seed).scores["mse"]["drop"] for of_seed in scores]
    drop = tables["lds, trained with K = recipe, tested with K = 3"]["scores"]["mse"]["drop"]
    assert drop["mean"] == pytest.approx(np.mean(pairs)) and drop["std"] == pytest.approx(np.std(pairs, ddof=1))
    gap = scores[0][0]["gap"]
    assert np.isfinite(gap[:2]).all() and np.isnan(gap[2:]).all() and (gap[:2] >= 0).all()


def test_what_is_there_is_not_done_again(done, monkeypatch, capsys):
    monkeypatch.setattr(module, "train", None)
    monkeypatch.setattr(module, "evaluate", None)
    assert experiment(done, "--seeds", "0", "1", "--test_slots", "3") == 0
    out = capsys.readouterr().out
    assert "lds, trained with K = recipe, tested with K = 3, 2 seeds" in out
    assert out.splitlines()[2].split() == ["without", "with", "drop"]
    assert any(line.startswith("dup_image (% of images)") for line in out.splitlines())


def test_an_interrupted_training_is_continued(done, monkeypatch):
    (done / "lds-seed0" / "experiment.json").unlink()
    calls = []
    monkeypatch.setattr(module, "train", lambda arguments: calls.append(arguments))
    assert experiment(done, "--test_slots", "3") == 0
    (arguments,) = calls
    assert arguments[-2:] == ["--ckpt_path", "last"]


def test_models_of_images_are_scored_on_single_views(done):
    scoring = module.Scoring("orbit", {"views": 2, "image_size": 35}, limit=3, gap_limit=1, gap_samples=2)
    scores = scoring.scores(RunFolder(done / "plain-seed1"), None)
    assert len(scores["mse"]) == 3 and np.isfinite(scores["gap"]).tolist() == [True, False, False]


def test_other_settings_need_another_folder(done, capsys):
    assert experiment(done, "--lds.weight", "0.5") == 2
    assert "lds-seed0 holds a training with other settings; name another folder with --run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lds.wieght", "0.5"], "lds has the option 'wieght'"),
        (["--scales", "0"], "give one >= 0 and one > 0"),
        (["--train_slots", "3", "1"], "num_slots is 1; give at least 2 slots, or leave lds out"),
    ],
)
def test_bad_priors_are_refused_before_anything_is_trained(tmp_path, capsys, options, message):
    assert experiment(tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_long_numbers_stay_apart():
    pairs = [
        compare({"mse": np.full(3, 0.00117612 + x)}, {"mse": np.full(3, 0.00118723 + 3 * x)}) for x in (0, 1.2e-5, 4e-6)
    ]
    row = module.table(pairs).splitlines()[1]
    assert len(row.split()) == 10 and row.split()[0] == "mse"  # three times number, sign, number
