"""How far slow work is, on one line of the terminal."""

from __future__ import annotations

import sys
from datetime import timedelta
from time import monotonic


def progress(*state: str | int | None, note: str = "") -> None:
    """Show (name,) done, total and a ``note`` on stderr, over what was shown before; nothing if that is no terminal.

    A ``total`` of None is unknown; the line ends when ``done`` reaches it.
    """
    *name, done, total = state
    if sys.stderr.isatty():
        count = f"{done}" if total is None else f"{done}/{total}"
        words = [*name, count, note] if note else [*name, count]
        print("\r", *words, end="\n" if done == total else "", file=sys.stderr, flush=True)


class Countdown:
    """`progress` of work that takes long, with the time left, from how fast it went since the first call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        began, before = self._start = self._start or (monotonic(), done)
        seconds = monotonic() - began
        if done == total:
            note = f"in {_clock(seconds)}"
        else:
            note = f"{_clock(seconds * (total - done) / (done - before))} left" if done > before else ""
        progress(self.name, done, total, note=note.ljust(30))  # longer than what it covers


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03."""
    return str(timedelta(seconds=round(seconds)))
