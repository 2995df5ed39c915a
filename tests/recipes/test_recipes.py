"""Every recipe that ships can be built and trained; names, files and the table."""

import math

import pytest
import torch

import unscene
from unscene import recipes
from unscene.commands.train import main
from unscene.errors import InputError
from unscene.training.logger import read_rows

TINY = {
    "--data.train.num_scenes": "4",
    "--data.val.num_scenes": "2",
    "--data.batch_size": "2",
    "--trainer.max_steps": "1",
    "--trainer.val_check_interval": "1",
    "--trainer.log_every_n_steps": "1",
    "--trainer.accelerator": "cpu",
    "--trainer.devices": "1",
    "--trainer.enable_progress_bar": "false",
}
IMAGES = {"--data.train": "Tetrominoes", "--data.val": "Tetrominoes"}  # also where the recipe reads files
VIDEOS = {"--data.train": "BouncingBalls", "--data.train.frames": "2", "--data.val": "BouncingBalls"}
VIDEOS |= {"--data.val.frames": "2", "--data.train.num_scenes": "1", "--data.batch_size": "1"}
GRAY = {"--data.train.grayscale": "true", "--data.val.grayscale": "true"}
STAGES = '[{"class_path": "LengthCurriculum", "init_args": {"frames": [2], "batch_sizes": [1]}}]'
VIEWS = {"--data.train": "OrbitScenes", "--data.train.views": "2", "--data.val": "OrbitScenes", "--data.val.views": "2"}
SPLITS = {"--data.train.split": "train", "--data.val.split": "val"}
FEW = {"--model.num_sprites": "3"}  # of four images
OF_METHOD = {
    "dti_clustering": IMAGES | GRAY | SPLITS | FEW | {"--model.image_channels": "1", "--model.image_size": "[35,35]"},
    "dti_sprites": IMAGES | SPLITS | {"--model.image_size": "[35,35]", "--model.sprite_size": "null"},
    "efficientmorl": IMAGES | {"--model.early_iterations": "1"},
    "genesis": IMAGES | {"--model.image_size": "[35,35]"},
    "genesisv2": IMAGES | {"--model.image_size": "[35,35]"},
    "iodine": IMAGES | {"--model.iterations": "1", "--model.image_size": "[35,35]"},
    "monet": IMAGES | {"--model.image_size": "[35,35]"},
    "mulmon": VIEWS | {"--model.iterations": "2", "--model.view_size": "3"},
    "nem": {"--model.iterations": "1"},
    "rnem": VIDEOS | GRAY,
    "sequentialiodine": VIDEOS,
    "slotattention": IMAGES,
    "provide": VIDEOS | {"--model.iterations": "2", "--model.num_slots": "2", "--trainer.callbacks": STAGES},
}


def tiny(name):
    """Options that make one short step of a recipe."""
    options = OF_METHOD[name.split("/")[0]]
    classes = {key: value for key, value in options.items() if key in IMAGES}
    return [text for option in (classes | TINY | options).items() for text in option]


def convolutions(kernel, *channels):
    return sum(n_out * (n_in * kernel**2 + 1) for n_in, n_out in zip(channels, channels[1:], strict=False))


SMALL = convolutions(5, 17, 32, 32, 32) + 128 * 33 + 2 * 6  # refinement up to its MLP, and the four normalisations
PAPER = {
    "tetrominoes": convolutions(5, 34, 32, 32, 32, 32, 4) + SMALL + 64 * (128 + 128 + 1) + 3 * 64,
    "multi_dsprites": convolutions(5, 18, 32, 32, 32, 32, 4) + SMALL + 512 * (192 + 128 + 2) + 32 * 129 + 3 * 32,
    "clevr6": convolutions(3, 66, 64, 64, 64, 64, 4)
    + (convolutions(3, 17, 64, 64, 64, 64) + 256 * 65 + 2 * 6 + 1024 * (512 + 256 + 2) + 128 * 257 + 3 * 128),
}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_builds_and_steps(name, tmp_path):
    folder = main([name, "--run", str(tmp_path), *tiny(name)])
    _, (step, validation) = read_rows(folder.metrics)
    assert math.isfinite(float(step["loss"]))
    assert -1 <= float(validation["val/fg_ari"]) <= 1
    assert (folder.model / "model.safetensors").is_file()
    (optimizer,) = torch.load(folder.checkpoints / "last.ckpt")["optimizer_states"]
    moved = len(optimizer["state"]) == sum(len(g["params"]) for g in optimizer["param_groups"] if g["initial_lr"])
    assert moved or unscene.load(folder.model).idle_parameters  # which several processes must know


def test_models_of_recipes_have_the_sizes_of_the_paper():
    sizes = {name: sum(p.numel() for p in recipes.build_model(f"iodine/{name}").parameters()) for name in PAPER}
    assert sizes == PAPER


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_what_it_is(name):
    about = recipes.about(name)
    assert {"method", "dataset", "paper", "published", "measured"} <= about.keys()
    assert name.split("/")[0] == about["method"].lower().replace("-", "_")


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
    with pytest.raises(InputError, match="did you mean .*iodine/cle_mv or iodine/cle_mv-lds or iodine/clevr6 or"):
        recipes.find("iodine")


def test_models_of_a_recorded_configuration_can_be_built(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model: {class_path: toy_scenes.ToyModel, init_args: {num_slots: 5}}")
    assert len(recipes.build_model(str(file)).logit) == 5
    file.write_text("model: {class_path: unscene.IODINE}")
    assert type(recipes.build_model(str(file))) is unscene.IODINE
    for path, message in (("toy_scenes.Toyo", "toy_scenes has no such SceneModel"), ("Toyo", "knows .*IODINE")):
        file.write_text(f"model: {{class_path: {path}}}")
        with pytest.raises(InputError, match=f"there is no method 'Toyo'; .*{message}"):
            recipes.build_model(str(file))
