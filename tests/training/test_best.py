"""BestWeights: what it keeps, when it stops, and that a resumed training goes on as an uninterrupted one."""

import signal

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from safetensors.torch import load_file

from toy_scenes import ToyModel, ToyScenes
from toy_training import assert_equal, assert_same_training, checkpoint, command, fit, log
from unscene import IODINE, NEM, PROVIDE, RNEM, pretrained
from unscene.data import BouncingBalls, Shapes, Tetrominoes
from unscene.data.dataset import SceneDataset
from unscene.errors import InputError
from unscene.models.base import Losses
from unscene.training.best import BestWeights
from unscene.training.data import SceneData
from unscene.training.module import seed_all

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


class Valley(ToyModel):
    """The loss in validation falls until step 4 and rises afterwards."""

    def loss(self, batch, step):
        losses = super().loss(batch, step)
        return losses if self.training else Losses(torch.tensor(1.0 + abs(step - 4)), {})


def train(run, steps, patience=None, make=Valley, **options):
    """Validation after every step, a checkpoint after every second."""
    best = BestWeights(patience)
    seed_all(0)
    options = {"val_check_interval": 1, "checkpoint_every": 2, "keep_checkpoints": 9, "callbacks": [best]} | options
    return fit(run, steps, model=make(), **options), best


def weights(folder):
    return load_file(folder / "model.safetensors")


def at_step(folder, step):
    state = checkpoint(folder, f"step-{step:08d}.ckpt")["state_dict"]
    return {name.removeprefix("model."): value for name, value in state.items()}


def test_the_weights_of_the_lowest_validation_loss_are_kept(tmp_path):
    folder, best = train(tmp_path, 8)
    assert [float(row["val/loss"]) for row in log(folder) if row["val/loss"]] == [4, 3, 2, 1, 2, 3, 4, 5]
    assert (best.lowest, best.step, best.waited) == (1, 4, 4)
    assert_equal(weights(folder.best), at_step(folder, 4))
    assert_equal(weights(folder.model), at_step(folder, 8))
    assert_equal(dict(pretrained.load(folder.best).state_dict()), weights(folder.best))


def test_training_stops_when_the_loss_has_not_fallen_for_so_long(tmp_path, capsys):
    folder, best = train(tmp_path, 100, patience=3)
    assert checkpoint(folder)["global_step"] == 7 and (best.step, best.waited) == (4, 3)
    said = (
        f"\nstopped: val/loss was lowest at step 4, 3 validations ago; the weights of that step are in {folder.best}\n"
    )
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("first", [3, 4, 5, 6])  # before, at and after the lowest loss; with and without a checkpoint
def test_resuming_is_equal_to_an_uninterrupted_run(tmp_path, first):
    whole, _ = train(tmp_path / "whole", 20, patience=3)
    train(tmp_path / "resumed", first, patience=3)
    resumed, best = train(tmp_path / "resumed", 20, patience=3, ckpt_path="last")
    assert_same_training(resumed, whole)
    assert_equal(weights(resumed.best), weights(whole.best))
    assert checkpoint(resumed)["callbacks"] == checkpoint(whole)["callbacks"] and best.step == 4


def test_a_training_that_had_stopped_goes_on_only_with_more_patience(tmp_path):
    train(tmp_path, 100, patience=3)
    folder, _ = train(tmp_path, 100, patience=3, ckpt_path="last")
    assert checkpoint(folder)["global_step"] == 7
    train(tmp_path, 100, patience=5, ckpt_path="last")
    assert checkpoint(folder)["global_step"] == 9


def test_kill_9_while_replacing_the_best_weights_costs_nothing(tmp_path):
    script = (
        "import sys, toy_training, toy_scenes; from unscene.training.best import BestWeights; "
        "toy_scenes.die_in_the_middle_of_writing('best', 3); "
        "toy_training.fit(sys.argv[1], 5, callbacks=[BestWeights()], val_check_interval=1, checkpoint_every=2)"
    )
    killed = command(["-c", script, str(tmp_path / "killed")])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole, _ = train(tmp_path / "whole", 5, make=ToyModel)
    resumed, best = train(tmp_path / "killed", 5, make=ToyModel, ckpt_path="last")
    assert best.step == 5
    assert_same_training(resumed, whole)
    assert_equal(weights(resumed.best), weights(whole.best))
    assert not list(resumed.path.glob(".best*"))


class WithoutLabels(SceneDataset):
    def __init__(self, scenes):
        self.scenes = scenes

    def __len__(self):
        return len(self.scenes)

    def batch(self, indices):
        return {"image": self.scenes.batch(indices)["image"]}


SMALL = {"num_slots": 2, "latent_size": 4}
GAUSSIAN = SMALL | {"iterations": 2, "decoder_channels": [4], "refinement_channels": [4]}


@pytest.mark.parametrize(
    ("model", "scenes"),
    [
        (lambda: IODINE(**GAUSSIAN), Tetrominoes(3)),
        (lambda: PROVIDE(**GAUSSIAN, refinement_pool=16), BouncingBalls(3, frames=2)),
        (
            lambda: RNEM(**SMALL, encoder_channels=[4, 4], hidden_size=4),
            BouncingBalls(3, frames=3, grayscale=True),
        ),
        (lambda: NEM(**SMALL, iterations=2), Shapes(3)),
    ],
    ids=["IODINE", "PROVIDE", "RNEM", "NEM"],
)
def test_the_loss_of_validation_is_that_of_the_method_on_images_alone(tmp_path, model, scenes):
    model = model()
    data = SceneData(scenes, WithoutLabels(scenes), batch_size=2)
    folder, best = train(tmp_path, 1, make=lambda: model, data=data, lr=0.0)
    seed_all(0, 0)
    losses = []
    for part in ([0, 1], [2]):
        image = scenes.batch(part)["image"]
        model.eval().decompose(image)  # what validation does first, with the same noise
        losses += [model.loss({"image": image}, 1).total.item()] * len(part)
    assert best.lowest == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert float(log(folder)[-1]["val/loss"]) == pytest.approx(best.lowest)


def test_without_need_the_loss_of_validation_is_not_computed(whole):
    assert "val/loss" not in log(whole)[0]


def test_lightnings_early_stopping_works_too(tmp_path):
    stops = EarlyStopping("val/loss", patience=2)
    folder, _ = train(tmp_path / "whole", 100, callbacks=[stops])
    assert checkpoint(folder)["global_step"] == 6
    train(tmp_path / "resumed", 4, callbacks=[EarlyStopping("val/loss", patience=2)])
    resumed, _ = train(tmp_path / "resumed", 100, callbacks=[EarlyStopping("val/loss", patience=2)], ckpt_path="last")
    assert_same_training(resumed, folder)


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="patience is 0; it takes at least 1 validation to see that nothing improves"):
        BestWeights(patience=0)
    with pytest.raises(InputError, match="held-out scenes, but there are none; set data.val, or take BestWeights out"):
        train(tmp_path, 4, data=SceneData(ToyScenes(7), batch_size=3))
