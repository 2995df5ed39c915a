"""Every recipe that ships can be built and trained; names, files and the table."""

import pytest

from unscene import recipes
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.logger import read_rows

TINY = {
    "--data.train.num_scenes": "4",
    "--data.val.num_scenes": "2",
    "--data.batch_size": "2",
    "--model.iterations": "1",
    "--trainer.max_steps": "1",
    "--trainer.val_check_interval": "1",
    "--trainer.log_every_n_steps": "1",
    "--trainer.accelerator": "cpu",
    "--trainer.devices": "1",
    "--trainer.enable_progress_bar": "false",
}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_builds_and_steps(name, tmp_path):
    options = [text for option in TINY.items() for text in option]
    folder = main([name, "--run", str(tmp_path), *options])
    _, (step, validation) = read_rows(folder.metrics)
    assert float(step["loss"]) > 0
    assert -1 <= float(validation["val/fg_ari"]) <= 1
    assert (folder.model / "model.safetensors").is_file()


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_what_it_is(name):
    about = recipes.about(name)
    assert {"method", "dataset", "paper", "published", "measured"} <= about.keys()
    assert name.split("/")[0] == about["method"].lower()


def test_the_table_is_aligned():
    entries = {
        "a": {"method": "IODINE", "dataset": "Tetrominoes", "published": {"fg_ari": 0.992}, "measured": None},
        "long/name": {"method": "M", "dataset": "D", "measured": {"fg_ari": 0.5, "hardware": "2 cores", "time": "3 h"}},
    }
    assert recipes.table(entries).splitlines() == [
        "recipe     method  dataset      published     measured",
        "a          IODINE  Tetrominoes  fg_ari 0.992  -",
        "long/name  M       D            -             fg_ari 0.5, hardware 2 cores, time 3 h",
    ]


def test_a_file_goes_before_a_name_and_unknown_names_get_a_suggestion(tmp_path):
    file = tmp_path / "mine.yaml"
    file.touch()
    assert recipes.find(str(file)) == file
    assert recipes.find("iodine/tetrominoes") == recipes.FOLDER / "iodine/tetrominoes.yaml"
    with pytest.raises(InputError, match="no recipe 'iodin/tetrominos', shipped or file; did you mean iodine/tetromin"):
        recipes.find("iodin/tetrominos")
