"""How far slow work is, on one line of the terminal."""

from __future__ import annotations

import sys


def progress(*state: str | int | None) -> None:
    """Show (name,) done, total on stderr, over what was shown before; nothing if that is no terminal.

    A ``total`` of None is unknown; the line ends when ``done`` reaches it.
    """
    *name, done, total = state
    if sys.stderr.isatty():
        count = f"{done}" if total is None else f"{done}/{total}"
        print("\r", *name, count, end="\n" if done == total else "", file=sys.stderr, flush=True)
