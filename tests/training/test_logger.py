"""metrics.csv: complete after every row, and kept when a run resumes."""

import csv

from unscene.training.logger import MetricsFile


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_steps_count_from_one_and_missing_values_are_empty(tmp_path):
    log = MetricsFile(tmp_path / "metrics.csv")
    log.log_metrics({"loss": 0.5, "epoch": 0}, step=0)
    log.log_metrics({"val/mse": 0.25}, step=0)
    assert rows(log.path) == [{"step": "1", "loss": "0.5", "val/mse": ""}, {"step": "1", "loss": "", "val/mse": "0.25"}]


def test_resuming_keeps_earlier_rows_and_replaces_those_after_the_checkpoint(tmp_path):
    before = MetricsFile(tmp_path / "metrics.csv")
    for step in range(4):
        before.log_metrics({"loss": float(step), "kl": 1.0}, step=step)
    after = MetricsFile(before.path)
    for step in (2, 3):
        after.log_metrics({"loss": 10.0 * step}, step=step)
    losses = [(row["step"], row["loss"]) for row in rows(after.path)]
    assert losses == [("1", "0.0"), ("2", "1.0"), ("3", "20.0"), ("4", "30.0")]


def test_a_half_written_last_line_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,0.5\n2,0.12")
    MetricsFile(path).log_metrics({"loss": 0.25}, step=2)
    assert [(row["step"], row["loss"]) for row in rows(path)] == [("1", "0.5"), ("3", "0.25")]
