"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Names to the left, numbers to the right, each column as wide as its widest cell."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join("  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip() for row in rows)


def number(value: int | float | None) -> str:
    """Five digits, or - for what is undefined."""
    return "-" if value is None else f"{value:.5g}"
