"""Mean and spread over trainings, and which of them are dropped."""

import json

import numpy as np
import pytest

from unscene.cli import main
from unscene.errors import InputError
from unscene.evaluation import Evaluation
from unscene.evaluation.runs import read_evaluation, runs_table


def evaluation(mse, ari, **meta):
    about = {"model": "DTISprites", "dataset": "Tetrominoes", "n": 2, **meta}
    return Evaluation({"ari": np.array([ari, ari]), "mse": np.array([mse, mse])}, about).to_json()


ARI = [0.9, 0.8, 0.1, 0.7]
RUNS = [evaluation(mse, ari) for mse, ari in zip([1.0, 1.1, 2.0, 1.2], ARI, strict=True)]  # median 1.15


def test_a_run_far_above_the_median_is_dropped():
    runs = runs_table(RUNS)
    kept = [0.9, 0.8, 0.7]
    assert runs.num_runs == 4 and runs.dropped == [2]
    assert runs.scores["ari"] == {
        "all": {"mean": pytest.approx(np.mean(ARI)), "std": pytest.approx(np.std(ARI, ddof=1))},
        "kept": {"mean": pytest.approx(np.mean(kept)), "std": pytest.approx(np.std(kept, ddof=1))},
    }
    assert json.loads(json.dumps(runs.to_json()))["dropped"] == [2]


@pytest.mark.parametrize(("loss", "dropped"), [(1.5, []), (1.5001, [2])])
def test_the_threshold_is_one_and_a_half_medians(loss, dropped):
    assert runs_table([evaluation(mse, 0.5) for mse in (1.0, 1.0, loss)]).dropped == dropped


def test_scores_of_all_images_as_one_are_averaged_too():
    pooled = [{"semantic": {"miou": miou, "num_classes": 4}, "mot_pooled": {"mota": 1}} for miou in (0.4, 0.6)]
    runs = runs_table([evaluation(1.0, 0.5, **meta) for meta in pooled])
    assert runs.scores.keys() == {"ari", "mse", "semantic miou"}
    assert runs.scores["semantic miou"]["all"]["mean"] == pytest.approx(0.5)
    some = runs_table([evaluation(1.0, 0.5, **pooled[0]), evaluation(1.0, 0.5)])
    assert some.scores.keys() == {"ari", "mse"}


def test_one_run_has_no_spread_and_undefined_is_undefined():
    runs = runs_table([evaluation(1.0, np.nan)])
    assert runs.scores["ari"]["all"] == {"mean": None, "std": None}
    assert runs.scores["mse"]["kept"] == {"mean": 1.0, "std": None}
    assert runs.table().splitlines() == [
        "metric  all 1 runs  1 runs kept",
        "ari              -            -",
        "mse              1            1",
    ]


def test_bad_input():
    for evaluations, message in (
        ([], "there is no run to average"),
        ([RUNS[0], evaluation(1.0, 0.5, n=3)], "run 1 was evaluated with n 2 and run 2 with 3; evaluate all on the"),
        ([RUNS[0], evaluation(np.nan, 0.5)], "run 2 has no mse, by which failed runs are found"),
    ):
        with pytest.raises(InputError, match=message):
            runs_table(evaluations)


def test_command(capsys, tmp_path):
    folders = [tmp_path / str(i) for i in range(4)]
    for folder, run in zip(folders, RUNS, strict=True):
        folder.mkdir()
        (folder / "evaluation.json").write_text(json.dumps(run))
    out = tmp_path / "runs.json"
    assert main(["runs", *map(str, folders), "--json", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "all", "4", "runs", "3", "runs", "kept"]
    assert lines[1].split() == ["ari", "0.625", "±", "0.36", "0.8", "±", "0.1"]
    assert lines[-1] == f"dropped: {folders[2]}, whose error is more than 1.5 times the median"
    assert json.loads(out.read_text())["scores"]["ari"]["kept"]["mean"] == pytest.approx(0.8)


def test_evaluations_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="there is no .*evaluation.json; evaluate the run first: unscene evaluate"):
        read_evaluation(tmp_path)
    for text in ("{", "[]", '{"metrics": {}}'):
        (tmp_path / "evaluation.json").write_text(text)
        with pytest.raises(InputError, match="is damaged; evaluate the run again"):
            read_evaluation(tmp_path)
