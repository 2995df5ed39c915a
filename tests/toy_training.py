"""Trainings of the toy model, what they leave, and how to compare it; imported by tests and their subprocesses."""

import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from toy_scenes import ToyModel, ToyScenes
from unscene.training.data import SceneData
from unscene.training.module import seed_all
from unscene.training.run import train
from unscene.training.schedules import ExponentialDecay

TESTS = Path(__file__).parent


def fit(run, max_steps, *, model=None, data=None, batch_size=3, checkpoint_every=4, lr=0.01, **options):
    """Train the toy model; 7 scenes in batches of 3, so that every checkpoint lies within an epoch."""
    seed_all(0)
    options = ({"val_check_interval": 3} if data is None else {}) | options
    return train(
        model or ToyModel(),
        data or SceneData(ToyScenes(7), ToyScenes(5), batch_size=batch_size),
        partial(torch.optim.Adam, lr=lr),
        schedule=ExponentialDecay(factor=0.5, decay_steps=5),
        run=run,
        max_steps=max_steps,
        checkpoint_every=checkpoint_every,
        **{"log_every_n_steps": 1, "gradient_clip_val": 1.0, "enable_progress_bar": False}
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


def command(script, *arguments):
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *script, *arguments], env=environment, capture_output=True, text=True)
