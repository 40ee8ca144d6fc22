"""What live traffic says: the feedback on the bundles that share the sessions, and how far clicks have drifted.

lines             the lines of a feedback log
feedback_file     a SQLite file of them
sources           a log of them in a file, as JSON lines or in Redis, and copies of it
redis_streams     the streams of Redis
feedback_log      a log, as one row per session
sequential        intervals and tests that stay valid however often somebody looks
drawn             the explored positions of a log, and what another bundle would have placed there
estimate          what it would have earned there
analysis          the comparison of the arms, and its verdict
drift             the clicks of a training, and how far live ones differ from them
"""

from mtaw_fast.experiment.analysis import ExperimentResult, Question, analyze
from mtaw_fast.experiment.feedback_log import SessionTable, read_feedback

__all__ = ["ExperimentResult", "Question", "SessionTable", "analyze", "read_feedback"]
