"""Find trained weights by path, recipe name or hub id, and build the right model around them."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from unscene import models
from unscene.errors import InputError
from unscene.models.base import SceneModel, first_difference

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHIPPED = Path(__file__).parent / "weights"  # weights/iodine/tetrominoes/{config.json, model.safetensors}


def load(source: str | Path, method: type[SceneModel] | None = None, **hub_options: Any) -> SceneModel:
    """The model whose weights ``source`` holds, on the CPU, in evaluation mode.

    Args:
        source: a folder that `save_pretrained` wrote, the folder of a training run, the name of a
            recipe whose weights ship with the package, or the id of a repository on the Hugging Face hub.
        method: the class that is expected; by default any.
        hub_options: for `huggingface_hub.hf_hub_download`, such as ``revision`` or ``token``.

    Raises:
        InputError: nothing is there, it belongs to another method, or a file is damaged.
    """
    folder = find_weights(source, **hub_options)
    config = read_config(folder)
    name = config.pop("method", None)
    try:
        cls = find_method(name, config.pop("module", None))
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    if method is not None and not issubclass(cls, method):
        raise InputError(f"{folder} holds weights of {name}, not of {method.__name__}; use unscene.load or {name}")
    return read_weights(build(cls, config, folder), folder / WEIGHTS).eval()


def find_weights(source: str | Path, **hub_options: Any) -> Path:
    """The folder with config.json and model.safetensors that ``source`` stands for; downloads it from the hub."""
    path = Path(source).expanduser()
    if path.is_file():
        raise InputError(f"{path} is a file; name the folder that holds {CONFIG} and {WEIGHTS}")
    for folder in (path, path / "model", SHIPPED / path):
        if (folder / CONFIG).is_file():
            return folder
    if path.exists():
        raise InputError(f"{path} holds no weights ({CONFIG} and {WEIGHTS}), nor does {path / 'model'}")
    return _download(str(source), **hub_options)


def shipped() -> list[str]:
    """Names that `load` finds inside the package."""
    return sorted(file.parent.relative_to(SHIPPED).as_posix() for file in SHIPPED.rglob(CONFIG))


def methods() -> dict[str, type[SceneModel]]:
    """Every SceneModel that can be built, by name: those of the package and those that the user has defined."""
    for module in pkgutil.iter_modules(models.__path__, f"{models.__name__}."):
        importlib.import_module(module.name)
    found, waiting = {}, [SceneModel]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if not inspect.isabstract(cls):
            found[cls.__name__] = cls
    return found


def find_method(name: str, module: str | None = None) -> type[SceneModel]:
    """The SceneModel ``name``: the one that ``module`` defines, or one of `methods`."""
    if module is None:
        cls = methods().get(name)
    else:
        try:
            cls = getattr(importlib.import_module(module), name, None)
        except ImportError as error:
            raise InputError(f"the method {name} needs the module {module}: {error}; is it on PYTHONPATH?") from error
    if not (inspect.isclass(cls) and issubclass(cls, SceneModel)):
        known = f"{module} has no such SceneModel" if module else f"this version knows {', '.join(methods())}"
        raise InputError(f"there is no method {name!r}; {known}")
    return cls


def read_config(folder: Path) -> dict[str, Any]:
    """The hyper-parameters and, under ``method``, the name of the class."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise InputError(f"{folder / CONFIG} is no valid JSON ({error}); get the weights again") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / CONFIG} holds no hyper-parameters; get the weights again")
    return config


def build(cls: type[SceneModel], config: dict[str, Any], folder: Path) -> SceneModel:
    """The untrained model with the hyper-parameters of ``config``."""
    known = {name for parent in cls.__mro__ for name in inspect.signature(parent.__init__).parameters}
    unknown = config.keys() - known
    if unknown:
        raise InputError(
            f"{folder / CONFIG} has hyper-parameters that {cls.__name__} does not know: {', '.join(sorted(unknown))}; "
            "the weights come from another version"
        )
    try:
        return cls(**config)
    except (TypeError, KeyError, ValueError, RuntimeError) as error:  # InputError is a ValueError
        raise InputError(f"{folder / CONFIG} does not describe a {cls.__name__}: {error}") from error


def initialise(model: SceneModel, source: str | Path) -> SceneModel:
    """Fill ``model`` with the weights that ``source`` holds, of its method or one that this extends, in its shapes."""
    folder = find_weights(source)
    theirs, ours = read_config(folder).get("method"), [cls.__name__ for cls in type(model).__mro__]
    if theirs not in ours:
        raise InputError(f"{source} holds weights of {theirs}; they cannot initialise a {ours[0]}")
    return read_weights(model, folder / WEIGHTS, "the model to initialise")


def read_weights(model: SceneModel, file: Path, described: str = CONFIG) -> SceneModel:
    """Fill ``model``, which is as ``described``, from a safetensors file, which must hold exactly its parameters."""
    if not file.is_file():
        raise InputError(f"{file} does not exist; the weights belong beside {CONFIG}")
    try:
        state = load_file(file)
    except SafetensorError as error:
        raise InputError(f"{file} is damaged ({error}); get the weights again") from error
    if difference := first_difference(model.state_dict(), state):
        name, here, there = difference
        raise InputError(
            f"{file} does not fit {described}: {name} is {there} in the file and {here} in {type(model).__name__}"
        )
    model.load_state_dict(state)
    return model


def _download(name: str, **hub_options: Any) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    from unscene import recipes

    missing = f"there are no weights {name}: no such folder, nor do they ship ({', '.join(shipped()) or 'none do'})"
    if name in recipes.names():  # the hub would be asked for long, and in vain
        raise InputError(f"{missing}; it is a recipe, train it with `unscene train {name}`")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"{missing}, nor is it the id of a hub repository (owner/name)")
    try:
        files = [Path(hf_hub_download(name, filename, **hub_options)) for filename in (CONFIG, WEIGHTS)]
    except (HfHubHTTPError, OSError) as error:  # OSError: no connection
        raise InputError(f"{missing}, nor can the hub give them ({str(error).splitlines()[0]})") from error
    return files[0].parent
