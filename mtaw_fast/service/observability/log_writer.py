"""Lines written by a thread of their own, so that a reader who does not read stops nobody but that thread."""

from __future__ import annotations

import errno
import logging
import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence

_WAITING = 10_000  # lines; further ones are dropped, and counted
_TOGETHER = 256  # lines that are taken at a time
_WHOLE = select.PIPE_BUF  # bytes that a pipe takes together or not at all
_NOBODY = {errno.EPIPE, errno.EBADF}  # reads it any more
_PAUSE = 0.1  # seconds until what could not be written is tried again
_LAST = 1.0  # seconds that what waits has at the end of the process


class LogWriter(logging.Handler):
    """A log handler that never waits. Lines go to a file descriptor in order and whole, unless too many wait.

    On a full disk, or a full pipe that does not block, they wait as they do for a slow reader. Other processes' lines
    in the same pipe come between them, not into them, but for lines over 4 KiB.

    descriptor: where to. told_lost: makes the line that says how many lines were dropped.
    """

    def __init__(self, descriptor: int, told_lost: Callable[[int], str]) -> None:
        super().__init__()
        self._descriptor, self._told_lost = descriptor, told_lost
        self._lines: queue.Queue[str] = queue.Queue(_WAITING)
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
        """Wait until all that was logged is written, but not for long."""
        until = time.monotonic() + _LAST
        while self._lines.unfinished_tasks and not self._broken and time.monotonic() < until:
            time.sleep(0.001)

    def _write_all(self) -> None:
        while True:
            lines = [self._lines.get()]
            while len(lines) < _TOGETHER and not self._lines.empty():
                lines.append(self._lines.get())
            count = len(lines)
            with self._counting:
                lost, self._lost = self._lost, 0
            if lost:
                lines.append(self._told_lost(lost))
            if not all(self._written(piece) for piece in _pieces(lines)):
                self._broken = True
                return
            for _ in range(count):
                self._lines.task_done()

    def _written(self, data: bytes) -> bool:
        """Write all of it, however long that takes; False where nobody reads it any more."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                if error.errno in _NOBODY:
                    return False
                time.sleep(_PAUSE)
        return True


def _pieces(lines: Sequence[str]) -> Iterator[bytes]:
    """The lines to be written together: as many as a pipe takes whole, or a longer one alone."""
    piece = b""
    for text in lines:
        line = f"{text}\n".encode(errors="backslashreplace")
        if len(piece) + len(line) > _WHOLE:
            yield piece
            piece = b""
        piece += line
    yield piece
