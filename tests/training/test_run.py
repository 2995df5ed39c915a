"""Whole trainings of a toy model: what they leave, resuming, options, several processes. See also test_interruption."""

import csv
import shutil

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import CPUAccelerator, MPSAccelerator
from safetensors.torch import load_file

from toy_scenes import ToyModel
from toy_training import (
    assert_equal,
    assert_same_training,
    assert_weights_of_last_checkpoint,
    checkpoint,
    command,
    fit,
    log,
)
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.run import RunFolder, make_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


def test_a_run_leaves_logs_checkpoints_and_weights(whole):
    assert [row["step"] for row in log(whole) if row["loss"]] == [str(step) for step in range(1, 11)]
    assert [row["step"] for row in log(whole) if row["val/fg_ari"]] == ["3", "6", "9"]
    names = sorted(file.name for file in whole.checkpoints.iterdir())
    assert names == ["last.ckpt", "step-00000004.ckpt", "step-00000008.ckpt", "step-00000010.ckpt"]
    assert_weights_of_last_checkpoint(whole)
    assert list((whole.path / "tensorboard").glob("events*"))


def test_the_model_learns(whole):
    first, second, third = (float(row["val/mse"]) for row in log(whole) if row["val/mse"])
    assert first > second > third


@pytest.mark.parametrize("first", [5, 6])  # 5 lies within an epoch of data, 6 also coincides with validation
def test_resuming_is_bitwise_equal_to_an_uninterrupted_run(whole, tmp_path, first):
    fit(tmp_path, first)
    assert_same_training(fit(tmp_path, 10, ckpt_path="last"), whole)


def test_resuming_with_accumulated_gradients_and_workers(tmp_path):
    options = {"accumulate_grad_batches": 2, "val_check_interval": 20}
    once = fit(tmp_path / "once", 4, **options)
    fit(tmp_path / "twice", 3, **options)
    assert_same_training(fit(tmp_path / "twice", 4, ckpt_path="last", **options), once)


def test_validation_does_not_change_the_training(whole, tmp_path):
    other = fit(tmp_path, 10, val_check_interval=7)
    assert_equal(checkpoint(other)["state_dict"], checkpoint(whole)["state_dict"])


def test_old_checkpoints_are_removed(tmp_path):
    folder = fit(tmp_path, 4, checkpoint_every=1, keep_checkpoints=2)
    names = sorted(file.name for file in folder.checkpoints.iterdir())
    assert names == ["last.ckpt", "step-00000003.ckpt", "step-00000004.ckpt"]


def test_a_run_that_exists_is_not_overwritten(whole):
    before = log(whole)
    with pytest.raises(
        InputError, match=r"already holds a training; continue it with --ckpt_path last, or name another"
    ):
        fit(whole.path, 10)
    assert log(whole) == before


def test_weights_without_their_checkpoints_are_not_overwritten(tmp_path):
    folder = fit(tmp_path, 4)
    before = (folder.model / "model.safetensors").read_bytes()
    shutil.rmtree(folder.checkpoints)
    with pytest.raises(InputError, match=r"already holds a training; its checkpoints are gone, so name another folder"):
        fit(tmp_path, 4)
    assert (folder.model / "model.safetensors").read_bytes() == before


def test_a_refused_resume_leaves_the_record_of_the_run(tmp_path):
    folder = fit(tmp_path, 4, config="seed: 1")
    before = log(folder)
    with pytest.raises(InputError, match="belongs to another model"):
        fit(tmp_path, 8, model=ToyModel(num_slots=4), ckpt_path="last", config="seed: 2")
    assert (folder.config.read_text(), log(folder)) == ("seed: 1", before)
    fit(tmp_path, 8, ckpt_path="last", config="seed: 3")
    assert folder.config.read_text() == "seed: 3"


def test_a_training_that_is_refused_leaves_no_folder(tmp_path):
    class Refuses(Callback):
        def setup(self, *_, stage):
            raise InputError("the data does not fit")

    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with pytest.raises(InputError, match="does not fit"):
            fit(tmp_path / name, 3, callbacks=[Refuses()])
    assert [folder.name for folder in tmp_path.iterdir()] == ["old"]


def test_on_resuming_the_optimiser_is_the_one_asked_for_now(tmp_path):
    saved = checkpoint(fit(tmp_path, 5))
    resumed = checkpoint(fit(tmp_path, 6, lr=0.5, ckpt_path="last"))
    (before,), (after,) = (state["optimizer_states"][0]["param_groups"] for state in (saved, resumed))
    assert (before["lr"], after["initial_lr"]) == (0.01 * 0.5, 0.5)
    assert after["lr"] == 0.5 * 0.5 ** (6 / 5)
    assert resumed["optimizer_states"][0]["state"][0]["step"] == 6
    assert [float(row["learning_rate"]) for row in log(RunFolder(tmp_path)) if row["loss"]][-1] == 0.5 * 0.5


def test_a_short_run_has_curves(tmp_path):
    folder = fit(tmp_path, 20, log_every_n_steps=None)
    assert [row["step"] for row in log(folder) if row["loss"]] == [str(step) for step in range(2, 21, 2)]


@pytest.mark.parametrize(("max_steps", "interval"), [(-1, 50), (5, 1), (100, 10), (10000, 50)])
def test_how_often_is_logged(tmp_path, max_steps, interval):
    options = {"max_steps": max_steps, "accelerator": "cpu", "enable_progress_bar": False}
    assert make_trainer(RunFolder(tmp_path), [], validate=True, **options).log_every_n_steps == interval


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accelerator": "foo"}, "trainer: .*invalid accelerator name.*'foo'"),
        ({"strategy": "foo"}, "trainer: .*invalid strategy name.*'foo'"),
        ({"devices": 0}, "trainer: .*devices"),
        ({"val_check_interval": 0.5}, "trainer: .*val_check_interval"),
    ],
)
def test_trainer_options_that_do_not_work_are_told_in_a_sentence(tmp_path, options, message):
    with pytest.raises(InputError, match=message) as told:
        fit(tmp_path, 4, **options)
    assert "\n" not in str(told.value)


@pytest.mark.filterwarnings("ignore:GPU available but not used")
def test_auto_never_means_apples_mps(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    trainer = make_trainer(RunFolder(tmp_path), [], validate=True, accelerator="auto", enable_progress_bar=False)
    assert isinstance(trainer.accelerator, CPUAccelerator)


def test_resuming_from_nothing(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint .*last.ckpt to continue from; leave out --ckpt_path"):
        fit(tmp_path, 10, ckpt_path="last")


RECIPE = """
about: {method: ToyModel}
model: {class_path: toy_scenes.ToyModel, init_args: {noise: 0.0}}
data:
  train: {class_path: toy_scenes.ToyScenes, init_args: {num_scenes: 7}}
  val: {class_path: toy_scenes.ToyScenes, init_args: {num_scenes: 5}}
optimizer: {class_path: Adam, init_args: {lr: 0.01}}
trainer: {max_steps: 6, accelerator: cpu, log_every_n_steps: 1, val_check_interval: 3, gradient_clip_val: 1.0}
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE)
    common = [str(recipe), "--trainer.enable_progress_bar", "false", "--run"]
    main([*common, str(tmp_path / "one"), "--data.batch_size", "4", "--trainer.devices", "1"])
    two = ["--data.batch_size", "2", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = command(["-m", "unscene.cli", "train"], *common, str(tmp_path / "two"), *two)
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-6)
    with (tmp_path / "one/metrics.csv").open() as first, (tmp_path / "two/metrics.csv").open() as second:
        for row, other in zip(csv.DictReader(first), csv.DictReader(second), strict=True):
            for key in ("step", "loss", "val/mse", "val/fg_ari"):
                assert float(row[key] or 0) == pytest.approx(float(other[key] or 0), rel=1e-4)
