"""Where feedback is kept: JSON lines in a file or a folder, or a Redis stream."""

from __future__ import annotations

import asyncio
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from mtaw_fast.errors import UsageError
from mtaw_fast.service.settings import REDIS, Settings


class FeedbackStore(Protocol):
    """Takes lines of JSON."""

    async def keep(self, line: bytes) -> None:
        """Keep a line, given without its end. Raises an error where it was not kept: then none of it was."""
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...


class FeedbackFile:
    """`FeedbackStore` that appends to a file, or to one a day (UTC) in a folder: feedback-2026-11-26.jsonl.

    Any number of processes share it: each line is one write under a lock. A file that was moved away (logrotate) is
    followed by a new one. A line is whole or absent: what a full disk took in part is cut off again.
    """

    def __init__(self, path: Path, folder: bool) -> None:
        """Raises UsageError where it cannot be written."""
        self._path, self._folder = path, folder
        self._thread = ThreadPoolExecutor(1, "feedback")
        try:
            if folder:
                path.mkdir(parents=True, exist_ok=True)
            os.close(self._open(self._file()))
        except OSError as error:
            raise UsageError(
                f"--feedback {path}: it cannot be written ({error.strerror}); name a file or a folder that can"
            ) from None

    def _file(self) -> Path:
        return self._path / f"feedback-{datetime.now(UTC):%Y-%m-%d}.jsonl" if self._folder else self._path

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    async def keep(self, line: bytes) -> None:
        """See `FeedbackStore.keep`. In a thread, since a disk may take its time; one line after the other."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, line)

    def _append(self, line: bytes) -> None:
        descriptor = self._open(self._file())
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a machine that failed left a part of one
                line = b"\n" + line
            wanted = line + b"\n"
            written = 0
            try:
                while written < len(wanted):
                    written += os.write(descriptor, wanted[written:])
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """See `FeedbackStore.close`. What waits is written; nothing stays open between two lines."""
        await asyncio.to_thread(self._thread.shutdown)


def open_feedback(settings: Settings, timeout: float) -> FeedbackStore | None:
    """The store that `--feedback` names, or None where it names none. timeout: seconds that a Redis has to answer.

    Raises UsageError where it cannot be one.
    """
    where = settings.feedback
    if where is None:
        return None
    if where.startswith(REDIS):
        from mtaw_fast.service.feedback.in_redis import RedisFeedback

        return RedisFeedback(where, timeout, settings.sessions_password)
    path = Path(where)
    return FeedbackFile(path, folder=where.endswith(os.sep) or path.is_dir())
