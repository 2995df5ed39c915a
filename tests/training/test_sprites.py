"""Trainings of DTI-Sprites: resumed ones, and those of two processes."""

import json

import pytest
import torch
from safetensors.torch import load_file

from toy_layers import Painted
from toy_training import assert_same_training, checkpoint, command, fit, log
from unscene import DTISprites
from unscene.cli import main
from unscene.training.data import SceneData
from unscene.training.reassignment import Reassignment
from unscene.training.run import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of Lightning, also after training


def brief(run, steps, **options):
    """Sprites are frozen for 2 steps, rotate after 4, and starved ones begin anew after 3 and 6."""
    torch.manual_seed(0)
    model = DTISprites(
        image_size=(24, 32),
        num_sprites=3,
        num_layers=2,
        sprite_size=(12, 12),
        encoder="resnet20",
        background=True,
        sprite_transforms="identity_similarity",
        sprite_milestones=(4,),
        freeze_steps=2,
        predict_occlusion=True,
    )
    data, callbacks = SceneData(Painted(7), batch_size=3), [Reassignment(every=3, threshold=1.0)]
    return fit(run, steps, model=model, data=data, callbacks=callbacks, **options)


@pytest.mark.parametrize("stop", [1, 5])  # while sprites are frozen, and between a milestone and a look at the counters
def test_resuming_is_bitwise_equal(tmp_path, stop):
    once = brief(tmp_path / "once", 7)
    brief(tmp_path / "twice", stop)
    assert_same_training(brief(tmp_path / "twice", 7, ckpt_path="last"), once)
    assert float(log(once)[-1]["reassigned"]) > 0
    assert checkpoint(once)["state_dict"]["model.own_transforms.predictors.similarity.biases.2"].any()


# All images are the same, so that the batch normalisation of half a batch is that of the whole; and there is no noise.
RECIPE = """
model:
  class_path: DTISprites
  init_args:
    image_size: [24, 32]
    num_sprites: 3
    num_layers: 2
    sprite_size: [12, 12]
    encoder: resnet20
    background: true
    sprite_transforms: identity_similarity
    sprite_milestones: [3]
    freeze_steps: 2
    predict_occlusion: true
    sweeps: 2
    mask_noise: 0.0
data: {train: {class_path: toy_layers.Painted, init_args: {num_scenes: 1}}}
optimizer: {class_path: SGD, init_args: {lr: 0.01, momentum: 0.9}}
trainer:
  max_steps: 5
  accelerator: cpu
  enable_progress_bar: false
  callbacks: [{class_path: StartFromData}, {class_path: Reassignment, init_args: {every: 4}}]
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    recipe = tmp_path / "sprites.yaml"
    recipe.write_text(RECIPE)
    restarts = [str(recipe), "--restarts", "2", "--run"]
    one = ["--data.batch_size", "4", "--trainer.devices", "1"]
    assert main(["train", *restarts, str(tmp_path / "one"), *one]) == 0
    two = ["--data.batch_size", "2", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = command(["-m", "unscene.cli", "train"], *restarts, str(tmp_path / "two"), *two)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name / "restarts.json").read_text()) for name in ("one", "two"))
    assert one["kept"] == two["kept"]
    for ours, theirs in zip(one["restarts"], two["restarts"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    one, two = (log(RunFolder(tmp_path / name)) for name in ("one", "two"))
    assert [row["reassigned"] for row in one] == [row["reassigned"] for row in two] == ["0.0"] * 3 + ["2.0"] * 2
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in one:
        if not name.endswith("running_var"):  # whose estimate depends on the number of images
            torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)
    assert two["usage_images"] == 4 and two["usage"].sum() == 8  # of both processes, since the reassignment
