"""The report of a training: one HTML file that shows what was learned and how well."""

from unscene.report.page import write_report

__all__ = ["write_report"]
