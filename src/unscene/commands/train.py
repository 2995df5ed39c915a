"""`unscene train RECIPE [overrides]`: the recipe's YAML, then the command line on top of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch.optim import Optimizer

import unscene.data.open  # noqa: F401  imports the datasets, which recipes call by the name of the class alone
import unscene.data.views  # noqa: F401  likewise
import unscene.training.best  # noqa: F401  likewise
import unscene.training.reassignment  # noqa: F401  likewise
import unscene.training.sprite_film  # noqa: F401  likewise
from unscene import pretrained, recipes
from unscene.commands.parser import Parser
from unscene.commands.restarts import train_restarts
from unscene.errors import InputError
from unscene.models.base import SceneModel
from unscene.training.data import SceneData
from unscene.training.groups import ParameterGroup
from unscene.training.module import seed_all
from unscene.training.run import FIXED, RunFolder, train
from unscene.training.schedules import Constant, Schedule
from unscene.training.start import StartFromData

# Options of Lightning's Trainer that a run fixes, or that make no sense for one endless epoch of training.
HIDDEN = {
    *FIXED,
    *("logger", "plugins", "default_root_dir", "min_epochs", "min_steps", "fast_dev_run", "overfit_batches"),
    *("limit_test_batches", "limit_predict_batches", "limit_train_batches", "reload_dataloaders_every_n_epochs"),
    *("inference_mode", "barebones", "enable_autolog_hparams", "model_registry"),
}

HELP = re.compile(r"-h|--([\w.]+\.)?help(=.*)?")


def main(args: list[str]) -> RunFolder:
    """Train as the arguments say; the first one is the recipe."""
    parser = make_parser()
    if args and HELP.fullmatch(args[0]):
        parser.parse_args(args)  # prints and exits
    recipe, options = split(args)
    content = recipes.read(recipe)  # its complaints name the file
    parser.set_defaults({"run": f"runs/{recipe if recipe in recipes.names() else Path(recipe).stem}"})
    arguments = ["--config", str(recipes.find(recipe)), *name_class(options, content)]

    def configure(*more: str) -> Namespace:
        config = parser.parse_args([*arguments, *more])
        config.about = {"recipe": recipe} | config.about
        return config

    config = configure()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # neither tips nor a summary of hardware
    folder = run(parser, config) if config.restarts is None else restart(parser, config, configure)
    if rank_zero_only.rank == 0:
        print(f"trained; everything is in {folder.path}")
    return folder


def split(args: list[str]) -> tuple[str, list[str]]:
    """The recipe, and the options behind it."""
    if args[:1] == ["--config"]:  # as LightningCLI wants it
        args = args[1:]
    if not args or args[0].startswith("-"):
        raise InputError(
            "train needs a recipe as its first argument: a name that `unscene recipes` lists, or a YAML file"
        )
    return args[0], args[1:]


def name_class(options: list[str], recipe: dict[str, Any]) -> list[str]:
    """Make a final `--model.help` explain the class that the recipe has there; alone it explains the abstract one."""
    if not options or not options[-1].endswith(".help"):
        return options
    part: Any = recipe
    for key in options[-1].removeprefix("--").split(".")[:-1]:
        part = part.get(key) if isinstance(part, dict) else None
    cls = part.get("class_path") if isinstance(part, dict) else None
    return [*options[:-1], f"{options[-1]}={cls}"] if cls else options


def run(parser: Parser, config: Namespace) -> RunFolder:
    """Build what the configuration describes and train it."""
    seed_all(config.seed)  # the model's initialisation
    parts = parser.instantiate(config)
    if parts.init is not None and parts.ckpt_path is None:  # else the weights are those of the checkpoint
        pretrained.initialise(parts.model, parts.init)
        parts.trainer.callbacks = [c for c in parts.trainer.callbacks or [] if not isinstance(c, StartFromData)]
    return train(
        parts.model,
        parts.data,
        parts.optimizer,
        run=parts.run,
        schedule=parts.schedule,
        groups=parts.groups,
        seed=parts.seed,
        checkpoint_every=parts.checkpoint_every,
        keep_checkpoints=parts.keep_checkpoints,
        ckpt_path=parts.ckpt_path,
        # to train again, not to continue; options that are off are not the same as options not given
        config=parser.dump(config.clone().update(None, "ckpt_path"), skip_unset=False),
        **parts.trainer.as_dict(),
    )


def restart(parser: Parser, config: Namespace, configure: Callable[..., Namespace]) -> RunFolder:
    """Several trainings, which are ``config`` but for the seed, and the best one as the training in its folder."""

    def train_once(folder: Path, seed: int, ckpt_path: str | None) -> RunFolder:
        here = ["--run", str(folder), "--seed", str(seed), "--ckpt_path", ckpt_path or "null", "--restarts", "null"]
        return run(parser, configure(*here))

    seeds = range(config.seed, config.seed + config.restarts)
    folder = RunFolder(Path(config.run))
    return train_restarts(train_once, folder, seeds, config.trainer.max_steps, config.ckpt_path)


def make_parser() -> Parser:
    """Everything that a recipe may say, with its types, defaults and help."""
    pretrained.methods()  # imported, so that recipes may call them by the name of the class alone
    parser = Parser(
        prog="unscene train",
        usage="unscene train RECIPE [options]",
        description="Train a model. RECIPE is a name that `unscene recipes` lists or a YAML file; "
        "options replace what it says. Several --config files may be given, the later ones win.",
    )
    parser.add_argument("--config", action=ActionConfigFile, help="another YAML file on top of the recipe")
    parser.add_argument("--about", type=dict[str, Any], default={}, help="for people: paper, published values")
    parser.add_argument("--run", type=str, default="runs/unnamed", help="folder for logs, checkpoints and weights")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of initialisation, order of samples, noise")
    parser.add_argument("--restarts", type=PositiveInt | None, help="train with so many seeds, keep the lowest loss")
    parser.add_argument("--init", type=str | None, help="weights to start from, as `evaluate` takes them: fine-tuning")
    parser.add_argument("--ckpt_path", type=str | None, help="`last` or a file: continue from that checkpoint")
    parser.add_argument("--checkpoint_every", type=PositiveInt, default=1000, help="steps between two checkpoints")
    parser.add_argument("--keep_checkpoints", type=PositiveInt, default=3, help="number of checkpoints that remain")
    parser.add_argument("--model", type=SceneModel, required=True, help="the method and its hyper-parameters")
    parser.add_class_arguments(SceneData, "data")
    parser.link_arguments("seed", "data.seed")
    parser.add_argument("--optimizer", type=Callable[[Iterable], Optimizer], required=True, help="of torch.optim")
    parser.add_argument("--schedule", type=Schedule, default=Constant(), help="of the learning rate, by steps")
    parser.add_argument("--groups", type=list[ParameterGroup], default=[], help="rates and decays for some parameters")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, skip={*HIDDEN, "limit_val_batches"})
    parser.add_argument(  # of Lightning's Union[float, int] a 2 would be 2.0, which is no number of batches
        "--trainer.limit_val_batches", type=int | float | None, help="number of validation batches, or share as float"
    )
    parser.set_defaults({"trainer.val_check_interval": 1000})
    return parser
