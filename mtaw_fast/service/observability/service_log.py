"""The service's log: JSON lines on stderr that say what happened, never what a request contained.

A thread of its own writes the lines, so that a slow reader of stderr stops only that thread.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

_LOGGER = logging.getLogger("mtaw_fast.service")
_MAX_WAITING = 10_000  # lines; further ones are dropped and counted
_AT_ONCE = 256  # lines taken from the queue at a time
_ATOMIC = select.PIPE_BUF  # bytes that a pipe takes as a whole or not at all
_NO_READER = {errno.EPIPE, errno.EBADF}
_PAUSE = 0.1  # seconds until a failed write is tried again
_FLUSH_SECONDS = 1.0  # at the end of the process


def log_event(event: str, *, level: str = "info", **fields: Any) -> None:
    """Log an event with its fields."""
    _LOGGER.log(logging.getLevelName(level.upper()), event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON.

    Of an exception and its cause the line holds the types and the places in the code. Their messages are left out,
    because they may quote a request.
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
            line |= _exception_fields(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _exception_fields(error: BaseException | None) -> dict[str, Any]:
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    stack = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    fields = {"exception": type(error).__name__, "where": stack}
    return fields if error.__cause__ is None else {**fields, "cause": _exception_fields(error.__cause__)}


class LogWriter(logging.Handler):
    """A log handler that never waits: its thread writes whole lines in order, and drops lines if too many wait.

    On a full disk, or a full non-blocking pipe, lines wait as for a slow reader. If processes share a pipe, their lines
    do not mix, except lines over 4 KiB.

    Parameters
    ----------
    descriptor : int
        The file descriptor to write to.
    lost_line : callable
        Returns the line that reports how many lines were dropped.
    """

    def __init__(self, descriptor: int, lost_line: Callable[[int], str]) -> None:
        super().__init__()
        self._descriptor, self._lost_line = descriptor, lost_line
        self._lines: queue.Queue[str] = queue.Queue(_MAX_WAITING)
        self._lost, self._counting = 0, threading.Lock()
        self._broken = False
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            with self._counting:
                self._lost += 1

    def flush(self) -> None:
        """Wait until everything logged so far is written, for a second at most."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        while self._lines.unfinished_tasks and not self._broken and time.monotonic() < deadline:
            time.sleep(0.001)

    def _write_all(self) -> None:
        while True:
            lines = [self._lines.get()]
            while len(lines) < _AT_ONCE and not self._lines.empty():
                lines.append(self._lines.get())
            count = len(lines)
            with self._counting:
                lost, self._lost = self._lost, 0
            if lost:
                lines.append(self._lost_line(lost))
            if not all(self._written(piece) for piece in _pieces(lines)):
                self._broken = True
                return
            for _ in range(count):
                self._lines.task_done()

    def _written(self, data: bytes) -> bool:
        """Write all of the data, however long it takes; return False if there is no reader any more."""
        remaining = memoryview(data)
        while remaining:
            try:
                remaining = remaining[os.write(self._descriptor, remaining) :]
            except OSError as error:
                if error.errno in _NO_READER:
                    return False
                time.sleep(_PAUSE)
        return True


def _pieces(lines: Sequence[str]) -> Iterator[bytes]:
    """Yield the lines in pieces that a pipe takes as a whole; a longer line is a piece of its own."""
    piece = b""
    for text in lines:
        line = f"{text}\n".encode(errors="backslashreplace")
        if len(piece) + len(line) > _ATOMIC:
            yield piece
            piece = b""
        piece += line
    yield piece


def _lost_lines(count: int) -> str:
    record = _LOGGER.makeRecord(_LOGGER.name, logging.WARNING, "", 0, "log_lines_lost", (), None)
    record.fields = {"count": count}
    return JsonLines().format(record)


def flush_log() -> None:
    """Wait until everything logged so far is written, for a second at most."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def configure_logging() -> None:
    """Send everything that this process logs to stderr, as JSON lines."""
    handler = LogWriter(sys.stderr.fileno(), _lost_lines)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # below that level: mistakes of clients
