"""Configurations of `unscene train`. What training does is tested in tests/training."""

import re

import pytest
import yaml

import unscene
from toy_scenes import ToyModel
from unscene import cli
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.run import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

RECIPE = """
about: {method: Toy, published: {fg_ari: 0.5}}
model: {class_path: toy_scenes.ToyModel, init_args: {num_slots: 3}}
data:
  train: {class_path: toy_scenes.ToyScenes}
  batch_size: 4
optimizer: {class_path: Adam, init_args: {lr: 0.01}}
schedule: {class_path: ExponentialDecay, init_args: {factor: 0.5}}
trainer: {max_steps: 2, accelerator: cpu, devices: 1, enable_progress_bar: false, log_every_n_steps: 1}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE)
    return "toy.yaml"


def printed(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main([*args, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def weights(folder):
    return (folder.model / "model.safetensors").read_bytes()


def test_the_command_line_goes_over_the_recipe(recipe, capsys):
    config = printed(capsys, recipe)
    assert config["run"] == "runs/toy"
    assert config["model"]["init_args"]["num_slots"] == 3
    assert config["about"] == {"method": "Toy", "published": {"fg_ari": 0.5}}
    options = ["--model.num_slots", "6", "--data.batch_size", "2", "--data.train.num_scenes", "9", "--run", "here"]
    options += ["--optimizer", "SGD", "--optimizer.lr", "0.5", "--schedule", "Constant", "--trainer.max_steps", "7"]
    config = printed(capsys, recipe, *options)
    assert config["model"] == {
        "class_path": "toy_scenes.ToyModel",
        "init_args": {"num_slots": 6, "noise": 0.1, "nan_at": -1},
    }
    assert config["data"]["train"] == {"class_path": "toy_scenes.ToyScenes", "init_args": {"num_scenes": 9}}
    assert (config["optimizer"]["class_path"], config["optimizer"]["init_args"]["lr"]) == ("torch.optim.SGD", 0.5)
    assert config["schedule"] == {"class_path": "unscene.training.schedules.Constant", "init_args": {}}
    assert (config["run"], config["data"]["batch_size"], config["trainer"]["max_steps"]) == ("here", 2, 7)


def test_a_run_records_its_configuration_which_trains_the_same_again(recipe):
    first = main([recipe, "--seed", "5"])
    assert first == RunFolder(first.path)
    recorded = yaml.safe_load(first.config.read_text())
    assert recorded["about"] == {"recipe": "toy.yaml", "method": "Toy", "published": {"fg_ari": 0.5}}
    assert recorded["seed"] == 5
    second = main([str(first.config), "--run", "again"])
    assert weights(first) == weights(second)
    main([str(first.config), "--ckpt_path", "last", "--trainer.max_steps", "3"])
    assert yaml.safe_load(first.config.read_text())["ckpt_path"] is None


def test_what_is_switched_off_is_recorded_too(recipe):
    folder = main([recipe, "--model.nan_at", "null"])
    assert yaml.safe_load(folder.config.read_text())["model"]["init_args"]["nan_at"] is None


def test_validation_can_be_cut_short(recipe):
    for text, number in (("1", 1), ("0.5", 0.5)):
        folder = main([recipe, "--trainer.limit_val_batches", text, "--run", f"limit-{text}"])
        recorded = yaml.safe_load(folder.config.read_text())["trainer"]["limit_val_batches"]
        assert (recorded, type(recorded)) == (number, type(number))


def test_users_callbacks_run_beside_ours(recipe):
    folder = main([recipe, "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor"])
    assert "lr-Adam" in folder.metrics.read_text()


def test_the_seed_changes_the_training(recipe):
    folders = [main([recipe, "--seed", seed, "--run", seed, "--model.noise", "0.0"]) for seed in "12"]
    assert weights(folders[0]) != weights(folders[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.num_slot", "3"], "model: .*Option 'num_slot' is not accepted"),
        (["--data.train.num_scene", "3"], "data.train: .*Option 'num_scene' is not accepted"),
        (["--trainer.max_step", "3"], "unrecognized arguments: --trainer.max_step"),
        (["--trainer.max_epochs", "3"], "unrecognized arguments: --trainer.max_epochs"),
        (["--model.num_slots", "many"], "num_slots: expected int. Got value: many"),
        (["--model", "Toyo"], "model: there is no class Toyo"),
        (["--optimizer", "Adamo"], "optimizer: there is no class Adamo"),
        (["--schedule.factor", "0"], "factor must be above 0, got 0.0"),
        (["--data.val", "BouncingBalls", "--data.val.frames", "0"], "^frames is 0; a video has at least 1 frame$"),
        (["--trainer.callbacks+=BestWeights", "--trainer.callbacks.patience=0"], "^patience is 0; it takes at least 1"),
        (["--seed", "-1"], "seed: .*NonNegativeInt"),
        (["--config", "more.yaml"], "config: File does not exist: .*more.yaml"),
    ],
)
def test_mistakes_are_named(recipe, options, message):
    with pytest.raises(InputError, match=message):
        main([recipe, *options])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.strategy", "foo"], "trainer: .*invalid strategy"),
        (["--trainer.accelerator", "foo"], "trainer: .*invalid accelerator"),
        (["--trainer.devices", "0"], "trainer: .*devices"),
        (["--optimizer.lr", "-1"], "optimiser cannot be built: Invalid learning rate: -1.0"),
    ],
)
def test_what_only_lightning_or_torch_refuse_is_told_by_the_command(recipe, options, message, capsys):
    assert cli.main(["train", recipe, *options]) == 2
    assert re.fullmatch(f"unscene: error: .*{message}.*\n", capsys.readouterr().err)


def test_a_training_starts_from_given_weights(recipe):
    start = main([recipe, "--run", "start"])
    untrained = ["--optimizer.lr", "0", "--seed", "1", "--init"]
    assert weights(main([recipe, "--run", "fine", *untrained, "start"])) == weights(start)
    ToyModel(num_slots=4).save_pretrained("other")
    unscene.IODINE().save_pretrained("iodine")
    for source, message in {
        "other": r"other/model.safetensors does not fit the model to initialise",
        "iodine": "iodine holds weights of IODINE; they cannot initialise a ToyModel",
        "missing": "there are no weights missing",
    }.items():
        with pytest.raises(InputError, match=message):
            main([recipe, *untrained, source])
    main([recipe, "--run", "start", "--init", "missing", "--ckpt_path", "last"])  # not read then


@pytest.mark.parametrize("args", [[], ["--seed", "3"], ["--run", "helpful"], ["--trainer.max_steps", "3", "toy.yaml"]])
def test_a_recipe_is_needed_and_comes_first(args):
    with pytest.raises(InputError, match="recipe as its first argument: a name that `unscene recipes` lists, or a YAM"):
        main(args)


def test_a_recipe_may_be_given_as_a_configuration(recipe, capsys):
    assert printed(capsys, "--config", recipe, "--seed", "2") == printed(capsys, recipe, "--seed", "2")


def test_a_recipe_must_exist():
    with pytest.raises(InputError, match=r"no recipe 'iodine/tetromino', .* did you mean iodine/tetrominoes"):
        main(["iodine/tetromino"])


@pytest.mark.parametrize(("content", "message"), [("model: {a: [", "is no valid YAML"), ("word", "is no recipe")])
def test_broken_yaml_names_the_file(recipe, tmp_path, content, message):
    (tmp_path / "toy.yaml").write_text(content)
    with pytest.raises(InputError, match=f"toy.yaml {message}"):
        main([recipe])


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--help"], "usage: unscene train RECIPE [options]"),
        (["-h"], "--data.batch_size BATCH_SIZE images per process and step"),
        (["--model.help", "toy_scenes.ToyModel"], "--model.nan_at NAN_AT step at which the loss becomes NaN; None for"),
        (["toy.yaml", "--help"], "usage: unscene train RECIPE [options]"),
        (["toy.yaml", "--model.help"], "--model.nan_at NAN_AT step at which the loss becomes NaN; None for"),
        (["toy.yaml", "--seed", "1", "--data.train.help"], "--data.train.num_scenes NUM_SCENES number of scenes"),
        (["toy.yaml", "--schedule.help", "Constant"], "--schedule.help=unscene.training.schedules.Constant"),
        (["toy.yaml", "--model.help=IODINE"], "--model.iterations ITERATIONS"),
        (["toy.yaml", "--data.val.help"], "Help for --data.val.help=unscene.data.SceneDataset"),
    ],
)
def test_help_explains_options_and_the_classes_of_the_recipe(recipe, capsys, args, text):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 0
    assert text in " ".join(capsys.readouterr().out.split())
