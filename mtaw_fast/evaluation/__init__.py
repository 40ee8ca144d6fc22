"""Evaluation of anything that ranks: protocol, metrics and baselines."""

from mtaw_fast.evaluation.metrics_report import Report, report_of
from mtaw_fast.evaluation.protocol import Evaluated, Progress, evaluate, measure, ranks_of

__all__ = ["Evaluated", "Progress", "Report", "evaluate", "measure", "ranks_of", "report_of"]
