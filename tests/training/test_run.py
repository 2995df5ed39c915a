"""Whole trainings of a toy model: resuming, killing, failing, and several processes."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import CPUAccelerator, MPSAccelerator
from safetensors.torch import load_file

from toy_scenes import ToyModel, ToyScenes
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.data import SceneData
from unscene.training.module import TrainingDiverged, seed_all
from unscene.training.run import RunFolder, make_trainer, train
from unscene.training.schedules import ExponentialDecay

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


def fit(run, max_steps, *, model=None, batch_size=3, checkpoint_every=4, lr=0.01, **options):
    """Train the toy model; 7 scenes in batches of 3, so that every checkpoint lies within an epoch."""
    seed_all(0)
    return train(
        model or ToyModel(),
        SceneData(ToyScenes(7), ToyScenes(5), batch_size=batch_size),
        partial(torch.optim.Adam, lr=lr),
        schedule=ExponentialDecay(factor=0.5, decay_steps=5),
        run=run,
        max_steps=max_steps,
        checkpoint_every=checkpoint_every,
        **{"val_check_interval": 3, "log_every_n_steps": 1, "gradient_clip_val": 1.0, "enable_progress_bar": False}
        | {"accelerator": "cpu", "devices": 1}
        | options,
    )


def checkpoint(folder, name="last.ckpt"):
    return torch.load(folder.checkpoints / name)


def log(folder):
    """The rows of metrics.csv but for the speed."""
    with folder.metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def assert_equal(one, other):
    """Bitwise, through dicts and lists of tensors and numbers."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def assert_same_state(one, other):
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_equal(checkpoint(one)[key], checkpoint(other)[key])
    assert_equal(load_file(one.model / "model.safetensors"), load_file(other.model / "model.safetensors"))


def assert_same_training(one, other):
    assert_same_state(one, other)
    assert log(one) == log(other)


def assert_weights_of_last_checkpoint(folder):
    loaded = ToyModel.from_pretrained(folder.model)
    saved = checkpoint(folder)["state_dict"]
    assert_equal(dict(loaded.state_dict()), {name.removeprefix("model."): value for name, value in saved.items()})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Ten steps without interruption."""
    return fit(tmp_path_factory.mktemp("whole"), 10)


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


def test_divergence_names_term_and_step_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(TrainingDiverged, match="not finite at step 6: error = nan; lower the learning rate"):
        fit(tmp_path, 10, model=ToyModel(nan_at=6))
    assert_same_as_step_4(tmp_path)


class NaNGradient(ToyModel):
    """Its loss stays finite, but not the gradient of the loss at ``step``."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def loss(self, batch, step):
        losses = super().loss(batch, step)
        if step == self.step:
            losses.total.register_hook(lambda gradient: gradient * torch.nan)
        return losses


@pytest.mark.parametrize("step", [5, 7])  # 7 is the last before a checkpoint
def test_weights_that_a_gradient_broke_are_told_and_never_saved(tmp_path, step):
    with pytest.raises(TrainingDiverged, match=rf"weights are not finite after step {step}: logit and 4 more; lower"):
        fit(tmp_path, 10, model=NaNGradient(step))
    assert_same_as_step_4(tmp_path)
    assert all(weight.isfinite().all() for weight in load_file(tmp_path / "model" / "model.safetensors").values())


def test_a_full_disk_is_told_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 3:  # config is not written here: the header of metrics.csv (twice), the first checkpoint
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"cannot write checkpoint .*step-00000008.ckpt: No space left on device; make"
    ):
        fit(tmp_path, 10)
    assert_same_as_step_4(tmp_path)


class PressCtrlC(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("step", "hint"), [(2, "nothing saved yet"), (6, "--ckpt_path last continues from step 4")])
def test_stopping_by_hand_tells_how_to_go_on(tmp_path, capsys, step, hint):
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, 10, callbacks=[PressCtrlC(step)])
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning switches it off
    assert f"\nstopped; {hint}\n" in capsys.readouterr().out


def assert_same_as_step_4(run):
    names = sorted(file.name for file in (run / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step-00000004.ckpt"]
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 4


def command(script, *arguments):
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS / 'training'}", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *script, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "times", "step"),  # what is being put into its place at the kill, and where the training continues
    [("step-00000008.ckpt", 1, 4), ("last.ckpt", 2, 4), ("config.json", 2, 8), ("model.safetensors", 2, 8)],
)
def test_kill_9_while_saving_loses_only_the_steps_since_the_last_checkpoint(whole, tmp_path, name, times, step):
    script = f"import sys, test_run, toy_scenes; toy_scenes.die_in_the_middle_of_writing({name!r}, {times})"
    killed = command(["-c", f"{script}; test_run.fit(sys.argv[1], 10)", str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint(RunFolder(tmp_path))["global_step"] == step
    fit(tmp_path, step, ckpt_path="last")  # trains nothing, but the weights must be those of last.ckpt now
    assert_weights_of_last_checkpoint(RunFolder(tmp_path))
    resumed = fit(tmp_path, 10, ckpt_path="last")
    assert_same_state(resumed, whole)
    missing = {row["step"] for row in log(whole) if row not in log(resumed)}
    assert missing <= {"8"}  # Lightning logs a step after its checkpoint is written
    assert not list(tmp_path.glob("**/.unfinished"))


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
