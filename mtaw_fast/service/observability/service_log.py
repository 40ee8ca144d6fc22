"""The service's log: JSON lines on stderr that say what happened and never what was in a request."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from mtaw_fast.service.observability.log_writer import LogWriter

_LOGGER = logging.getLogger("mtaw_fast.service")


def log_event(event: str, *, level: str = "info", **fields: Any) -> None:
    """Log an event with its fields."""
    _LOGGER.log(logging.getLevelName(level.upper()), event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A record as one line of JSON.

    An exception is told by its type and where it came from, and so is what caused it; messages, which may quote a
    request, are left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage().strip(),
            "pid": os.getpid(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0] is not None:
            line |= _told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _told(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    told = {"exception": type(error).__name__, "where": where}
    return told if error.__cause__ is None else {**told, "cause": _told(error.__cause__)}


def _lost_lines(count: int) -> str:
    record = _LOGGER.makeRecord(_LOGGER.name, logging.WARNING, "", 0, "log_lines_lost", (), None)
    record.fields = {"count": count}
    return JsonLines().format(record)


def flush_log() -> None:
    """Wait, for a moment, until what was logged is written."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def configure_logging() -> None:
    """Everything that is logged in this process goes to stderr as JSON lines, and waits for no reader."""
    handler = LogWriter(sys.stderr.fileno(), _lost_lines)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # below: what clients do wrong
