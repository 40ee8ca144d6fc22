"""Evaluation of anything that ranks: protocol, metrics and baselines."""

from mtaw_fast.evaluation.protocol import Evaluated, Progress, Report, evaluate, ranks_of, report_of

__all__ = ["Evaluated", "Progress", "Report", "evaluate", "ranks_of", "report_of"]
