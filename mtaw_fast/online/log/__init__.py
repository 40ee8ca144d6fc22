"""The event log: a folder of segment files, or a Redis stream that several hosts share."""

from __future__ import annotations

from mtaw_fast.online.log.event_log import EventLog
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings


def open_log(settings: LearningSettings) -> EventLog:
    """Open the log in `log_folder`, or the Redis stream of the settings. Raises LearnError, MissingPackageError."""
    if settings.stream is None:
        return FileLog(settings.log_folder, fsync=settings.fsync)
    from mtaw_fast.online.log.redis_log import RedisLog

    return RedisLog(settings.stream)
