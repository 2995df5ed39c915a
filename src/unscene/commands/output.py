"""What commands write besides their results: JSON beside a table, and how far they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from unscene.files import replacing


def write_json(content: Any, path: Path | None) -> None:
    """Write ``content`` to ``path``, whole or not at all; nothing if there is no path."""
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def progress(*state: str | int) -> None:
    """Show (name,) done, total on one line of the terminal."""
    *name, done, total = state
    if sys.stderr.isatty():
        print("\r", *name, f"{done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)
