"""RUN/metrics.csv: everything that is logged, kept over any number of resumptions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from unscene.files import replacing


class MetricsFile(Logger):
    """One row per logged event, an empty cell where a column has no value; the file is complete after each row.

    ``step`` counts the optimisation steps done. The first row of a resumed run replaces all rows at
    or after its step, which a killed run wrote after its last checkpoint. (Lightning's CSVLogger
    would delete the file instead.)
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] | None = None  # not known before the first row

    name = version = ""  # what Lightning asks of every logger
    log_dir = property(lambda self: str(self.path.parent))

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Not here: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": (step or 0) + 1} | {name: value for name, value in metrics.items() if name != "epoch"}
        if self.columns is None or not row.keys() <= set(self.columns):
            self._rewrite(row)
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _rewrite(self, row: dict[str, Any]) -> None:
        """Write the file anew with the columns of ``row`` added; at the first call, drop rows that it overtakes."""
        columns, rows = read_rows(self.path)
        if self.columns is None:
            rows = [old for old in rows if int(old["step"]) < row["step"]]
        self.columns = columns + [name for name in row if name not in columns]
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and whole rows of a metrics file; a last line that a killed run left half-written is dropped."""
    if not path.is_file():
        return [], []
    lines = path.read_text().splitlines(keepends=True)
    reader = csv.DictReader(line for line in lines if line.endswith("\n"))
    return list(reader.fieldnames or []), list(reader)
