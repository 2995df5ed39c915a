"""Several trainings by one command: which is kept, what RUN is afterwards, and going on after an interruption."""

import csv
import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

import unscene
from toy_scenes import ToyModel, ToyScenes
from toy_training import fit
from unscene.commands.restarts import final_loss, train_restarts
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.data import SceneData
from unscene.training.module import seed_all
from unscene.training.run import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


class Toy:
    """Trains the toy model; ``done`` is what was asked of it."""

    def __init__(self, steps=4, diverging=()):
        self.steps, self.diverging, self.done = steps, diverging, []

    def __call__(self, folder, seed, ckpt_path):
        self.done.append((folder.name, seed, ckpt_path))
        seed_all(seed)
        model = ToyModel(nan_at=2 if seed in self.diverging else -1)
        config = f"seed: {seed}\nrun: {folder}"
        options = {"seed": seed, "ckpt_path": ckpt_path, "checkpoint_every": 2, "config": config}
        return fit(folder, self.steps, model=model, data=SceneData(ToyScenes(7), batch_size=3), **options)


def restarts(run, seeds, train=None, ckpt_path=None):
    train = train or Toy()
    return train_restarts(train, RunFolder(run), seeds, train.steps, ckpt_path)


def weights(path):
    return load_file(path / "model" / "model.safetensors")


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def steps(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt")["global_step"]


def test_the_training_with_the_lowest_loss_is_kept(tmp_path, capsys):
    train = Toy()
    folder = restarts(tmp_path / "run", range(3, 6), train)
    assert train.done == [("restart-0", 3, None), ("restart-1", 4, None), ("restart-2", 5, None)]
    losses = [final_loss(folder.path / f"restart-{i}" / "metrics.csv") for i in range(3)]
    best = losses.index(min(losses))
    assert best > 0  # else this test proved little
    kept = folder.path / f"restart-{best}"
    assert same(weights(folder.path), weights(Toy()(tmp_path / "alone", 3 + best, None).path))
    assert not same(weights(folder.path), weights(folder.path / "restart-0"))
    assert folder.metrics.read_text() == (kept / "metrics.csv").read_text()
    recorded = json.loads((folder.path / "restarts.json").read_text())
    assert recorded["kept"] == kept.name and [r["loss"] for r in recorded["restarts"]] == losses
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["seed", "loss"]
    assert [row.split()[0] for row in rows[1:]] == ["3", "4", "5"]
    assert [row.endswith("kept") for row in rows[1:]] == [i == best for i in range(3)]


def test_the_folder_is_a_training_like_any_other(tmp_path):
    folder = restarts(tmp_path, range(2))
    kept = tmp_path / json.loads((tmp_path / "restarts.json").read_text())["kept"]
    assert isinstance(unscene.load(tmp_path), ToyModel)
    config = yaml.safe_load(folder.config.read_text())
    assert config == yaml.safe_load((kept / "config.yaml").read_text()) | {"run": str(tmp_path)}
    before = weights(kept), (kept / "metrics.csv").read_text()
    Toy(steps=6)(tmp_path, config["seed"], "last")  # continued, it leaves the restart as it was
    assert steps(tmp_path) == 6 and not same(weights(tmp_path), before[0])
    assert steps(kept) == 4 and same(weights(kept), before[0]) and (kept / "metrics.csv").read_text() == before[1]


def test_what_is_complete_is_not_done_again(tmp_path):
    restarts(tmp_path, range(2))
    expected = weights(tmp_path), weights(tmp_path / "restart-1")
    (tmp_path / "restart-1" / "restart.json").unlink()  # as if it had been stopped at its last checkpoint but one
    second = tmp_path / "restart-1" / "checkpoints"
    (second / "last.ckpt").unlink()
    (second / "last.ckpt").hardlink_to(second / "step-00000002.ckpt")
    train = Toy()
    restarts(tmp_path, range(2), train, "last")
    assert train.done == [("restart-1", 1, "last")]
    assert same(weights(tmp_path), expected[0]) and same(weights(tmp_path / "restart-1"), expected[1])


def test_more_restarts_and_more_steps(tmp_path):
    restarts(tmp_path, range(1))
    train = Toy(steps=5)
    restarts(tmp_path, range(2), train, "last")
    assert train.done == [("restart-0", 0, "last"), ("restart-1", 1, None)]
    assert [steps(tmp_path / name) for name in ("restart-0", "restart-1", ".")] == [5, 5, 5]


def test_one_that_diverges_is_out(tmp_path, capsys):
    restarts(tmp_path / "some", range(3, 5), Toy(diverging=[3]))
    assert json.loads((tmp_path / "some" / "restarts.json").read_text())["kept"] == "restart-1"
    assert capsys.readouterr().out.splitlines()[1].split() == ["3", "diverged"]
    train = Toy(diverging=[3])
    restarts(tmp_path / "some", range(3, 5), train, "last")
    assert train.done == []
    with pytest.raises(InputError, match="all restarts diverged; lower the learning rate"):
        restarts(tmp_path / "all", range(3, 5), Toy(diverging=[3, 4]))


def test_what_cannot_be_begun_or_continued(tmp_path):
    with pytest.raises(InputError, match="run cannot go on from last: with --restarts that is --ckpt_path last"):
        restarts(tmp_path / "run", range(2), ckpt_path="last")
    with pytest.raises(InputError, match="cannot go on from other.ckpt"):
        restarts(tmp_path / "run", range(2), ckpt_path="other.ckpt")
    restarts(tmp_path / "run", range(1))
    with pytest.raises(InputError, match="run already holds a training; continue it with --ckpt_path last"):
        restarts(tmp_path / "run", range(2))
    with pytest.raises(InputError, match="restart-0 was trained with seed 0, not 9; continue with its seed"):
        restarts(tmp_path / "run", range(9, 10), ckpt_path="last")


def test_the_final_loss_is_that_of_the_last_tenth(tmp_path):
    def write(losses):
        with (tmp_path / "metrics.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["step", "loss"], *enumerate(losses)])
        return tmp_path / "metrics.csv"

    assert final_loss(write([9.0] * 18 + [2.0, 3.0])) == 2.5
    assert final_loss(write([9.0, 4.0, ""])) == 4.0  # a row of validation
    with pytest.raises(InputError, match=r"metrics.csv has no training losses to compare; lower --trainer.log_every"):
        final_loss(write([""]))


RECIPE = """
seed: 3
model: {class_path: toy_scenes.ToyModel}
data: {train: {class_path: toy_scenes.ToyScenes}, batch_size: 4}
optimizer: {class_path: Adam, init_args: {lr: 0.01}}
trainer: {max_steps: 2, accelerator: cpu, devices: 1, enable_progress_bar: false}
"""


def test_the_command_trains_with_seeds_in_a_row(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE)
    folder = main(["toy.yaml", "--restarts", "2"])
    out = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in out[1:3]] == ["3", "4"]
    assert out[3] == "trained; everything is in runs/toy"
    recorded = yaml.safe_load(folder.config.read_text())
    assert recorded["restarts"] is None  # to train the best one again, alone
    again = main([str(folder.config), "--run", "again"])
    assert same(weights(folder.path), weights(again.path))
    with pytest.raises(InputError, match="restarts: .*PositiveInt"):
        main(["toy.yaml", "--restarts", "0"])
