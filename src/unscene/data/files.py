"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from unscene.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place on success and vanishes on failure.

    Raises InputError if the folder of ``path`` does not exist or may not be written to.
    """
    if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise InputError(f"cannot write {path.name} into {path.parent}; create that folder or make it writable")
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
