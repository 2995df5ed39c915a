"""Files and folders that appear whole or not at all, and one sentence where they cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from unscene.errors import InputError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # what writing to an open file may fail with

UNFINISHED = ".part"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, for a file or a folder, that takes its place on success, else vanishes.

    At any moment, power cuts included, ``path`` is what it was or the whole new one; only between a folder and the
    one it replaces there is an instant without either. Missing folders above ``path`` are made.
    Raises InputError if ``path`` cannot be written: permissions, a full disk, something else in its place.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        _take_place(temporary, path)
    except OSError as error:
        if not _concerns(error, path, temporary):
            raise
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; make room or name another place, "
            "what was there before is intact"
        ) from error
    finally:
        _remove(temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of `replacing` in ``folder``, into which nobody else may be writing now."""
    for path in folder.glob(f".*{UNFINISHED}"):
        _remove(path)


def write_json(content: Any, path: str | Path) -> None:
    """Write ``content``, which must be JSON-able without NaN, to the file ``path``, whole or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(Path(path)) as temporary:
        temporary.write_text(text)


def _concerns(error: OSError, path: Path, temporary: Path) -> bool:
    """Whether the error came from writing here, and not from something that was read meanwhile."""
    if error.filename is None:
        return error.errno in NO_ROOM
    failed = Path(error.filename)
    return temporary in (failed, *failed.parents) or failed in path.parents


def _sync(path: Path) -> None:
    """Have the system write a file, or the files of a folder, to the disk now: the rename must not overtake them."""
    for file in path.iterdir() if path.is_dir() else [path]:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _take_place(temporary: Path, path: Path) -> None:
    """Rename; but a folder cannot be renamed onto a full one, so that steps aside first."""
    if not (temporary.is_dir() and path.is_dir()):
        temporary.replace(path)
        return
    old = temporary.with_stem(f"{temporary.stem}.old")
    path.replace(old)
    temporary.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists():  # also where its folder is none, of which unlink would complain
        path.unlink()
