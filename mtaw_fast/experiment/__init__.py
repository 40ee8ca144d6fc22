"""Experiments with arms: what the feedback log says about the bundles that share the sessions.

feedback_log      the lines that a service keeps, as one row per session
sequential        intervals and tests that stay valid however often somebody looks
analysis          the comparison of the arms, and its verdict
"""

from mtaw_fast.experiment.analysis import ExperimentResult, Question, analyze
from mtaw_fast.experiment.feedback_log import SessionTable, read_feedback

__all__ = ["ExperimentResult", "Question", "SessionTable", "analyze", "read_feedback"]
