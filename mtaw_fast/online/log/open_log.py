"""Which log the settings mean."""

from __future__ import annotations

from mtaw_fast.online.log.event_log import EventLog
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings


def open_log(settings: LearningSettings) -> EventLog:
    """The log in the settings' folder, or the Redis stream that they name. Raises LearnError, MissingPackageError."""
    if settings.stream is None:
        return FileLog(settings.folder, fsync=settings.fsync)
    from mtaw_fast.online.log.redis_log import RedisLog

    return RedisLog(settings.stream)
