"""Trainings that do not reach their end: divergence, full disks, Ctrl-C, kill -9."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file

from toy_scenes import ToyModel
from toy_training import assert_same_state, assert_weights_of_last_checkpoint, checkpoint, command, fit, log
from unscene.errors import InputError
from unscene.training.module import TrainingDiverged
from unscene.training.run import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


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
    fsync = os.fsync

    def full(descriptor):
        if "step-00000008.ckpt" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"cannot write .*step-00000008.ckpt: No space left .*; --ckpt_path last continues from step 4"
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


@pytest.mark.parametrize(
    ("name", "times", "step"),  # what is being put into its place at the kill, and where the training continues
    [("step-00000008.ckpt", 1, 4), ("last.ckpt", 2, 4), ("model", 2, 8)],
)
def test_kill_9_while_saving_loses_only_the_steps_since_the_last_checkpoint(whole, tmp_path, name, times, step):
    script = f"import sys, toy_training, toy_scenes; toy_scenes.die_in_the_middle_of_writing({name!r}, {times})"
    killed = command(["-c", f"{script}; toy_training.fit(sys.argv[1], 10)", str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint(RunFolder(tmp_path))["global_step"] == step
    fit(tmp_path, step, ckpt_path="last")  # trains nothing, but the weights must be those of last.ckpt now
    assert_weights_of_last_checkpoint(RunFolder(tmp_path))
    resumed = fit(tmp_path, 10, ckpt_path="last")
    assert_same_state(resumed, whole)
    missing = {row["step"] for row in log(whole) if row not in log(resumed)}
    assert missing <= {"8"}  # Lightning logs a step after its checkpoint is written
    assert not list(tmp_path.glob("**/.*.part"))
