"""Recipes: one YAML per (method, dataset), the complete experiment. Found by name: ``iodine/tetrominoes``.

A recipe is what `unscene train` reads, with a mapping ``about`` on top for people: method, dataset,
paper, ``published`` and ``measured`` values ({metric: value}; measured also hardware, time, seed).
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unscene.errors import InputError

if TYPE_CHECKING:
    from unscene.models.base import SceneModel

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """What ships."""
    return sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.yaml"))


def find(recipe: str) -> Path:
    """The file of a shipped recipe or of the user's own. A file that exists goes before a name."""
    if Path(recipe).is_file():
        return Path(recipe)
    if recipe in names():
        return FOLDER / f"{recipe}.yaml"
    longer = [name for name in names() if name.startswith(recipe)]
    close = longer or get_close_matches(recipe, names(), n=3, cutoff=0.4) or names()
    raise InputError(f"there is no recipe {recipe!r}, shipped or file; did you mean {' or '.join(close)}?")


def read(recipe: str) -> dict[str, Any]:
    """The content of a recipe."""
    path = find(recipe)
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no recipe; see `unscene train iodine/tetrominoes --print_config` for one")
    return content


def about(recipe: str) -> dict[str, Any]:
    """What a recipe says about itself."""
    return read(recipe).get("about", {})


def build_model(recipe: str) -> SceneModel:
    """The untrained model that a recipe describes, for those who bring their own training loop."""
    from unscene.pretrained import find_method

    model = read(recipe)["model"]
    *module, name = model["class_path"].rsplit(".", 1)
    return find_method(name, *module)(**model.get("init_args", {}))


def table(recipes: dict[str, dict[str, Any]]) -> str:
    """Aligned text of {name: about}: method, dataset, published and measured values."""
    rows = [("recipe", "method", "dataset", "published", "measured")]
    for name, entry in recipes.items():
        values = (_values(entry.get(key)) for key in ("published", "measured"))
        rows.append((name, entry["method"], entry["dataset"], *values))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _values(entry: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in entry.items()) if entry else "-"
