"""Evaluation of anything that ranks: protocol and metrics, and rankings that need no training to compare with."""

from mtaw_fast.evaluation.protocol import Evaluated, Progress, Report, evaluate, ranks_of, report_of

__all__ = ["Evaluated", "Progress", "Report", "evaluate", "ranks_of", "report_of"]
