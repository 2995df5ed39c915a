"""Figures that commands draw into files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unscene.errors import InputError
from unscene.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = (".png", ".pdf", ".svg")


def check_figure_path(path: Path) -> None:
    """To be asked before the work whose result goes there."""
    if path.suffix.lower() not in FIGURES:
        raise InputError(f"cannot draw into {path}; end its name in one of {', '.join(FIGURES)}")


def write_figure(figure: Figure, path: Path) -> None:
    """Draw ``figure`` into ``path``, whole or not at all, in the format of its suffix."""
    check_figure_path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower())
