"""A bundle on one HTML page: what it was trained on and how, what it is worth, and what it recommends."""

from mtaw_fast.report.page import write_report

__all__ = ["write_report"]
