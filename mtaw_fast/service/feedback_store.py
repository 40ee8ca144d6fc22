"""Stores of the feedback that clients send: JSON lines in a file or a folder, or entries of a Redis stream."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

from mtaw_fast.errors import UsageError, require
from mtaw_fast.service.ranking_ids import FEEDBACK_STREAM
from mtaw_fast.service.redis_client import redis_client
from mtaw_fast.service.settings import REDIS, Settings

_FIELD = b"f"
_READ_ENTRIES = 1000  # of a stream, at once

Belongs = Callable[[bytes], bool]  # whether a line belongs to a session


class FeedbackStore(Protocol):
    """Stores lines of JSON."""

    async def keep(self, line: bytes) -> None:
        """Store a line, given without its line end. On an error, nothing of it is stored."""
        ...

    async def forget(self, belongs: Belongs) -> None:
        """Remove the lines that belong to a session."""
        ...

    async def close(self) -> None:
        """Close files and connections."""
        ...


class FeedbackFile:
    """`FeedbackStore` that appends to a file, or to one file a day (UTC) in a folder: feedback-2026-11-26.jsonl.

    Any number of processes can share it: each line is one write under a lock. If the file is moved away (logrotate),
    the next line begins a new one. A line is whole or absent: what a full disk took of it is cut off again.
    """

    def __init__(self, path: Path, folder: bool) -> None:
        """Raises UsageError if the path cannot be written."""
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
        """See `FeedbackStore.keep`. One thread writes the lines in order, so that a slow disk stops nothing else."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, line)

    async def forget(self, belongs: Belongs) -> None:
        """See `FeedbackStore.forget`. A file with such lines is replaced by one without them, which no kill leaves half
        done. Files that were moved away are not found."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget, belongs)

    def _forget(self, belongs: Belongs) -> None:
        for path in sorted(self._path.glob("feedback-*.jsonl")) if self._folder else [self._path]:
            if not path.exists():
                continue
            descriptor = self._locked(path)
            try:
                with open(descriptor, "rb", closefd=False) as lines:
                    if any(map(belongs, lines)):
                        _rewrite(path, lines, belongs)
            finally:
                os.close(descriptor)

    def _locked(self, path: Path) -> int:
        """Open a file and wait until nobody else has it; not one that was moved away or replaced meanwhile."""
        while True:
            descriptor = self._open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(path.stat(), os.fstat(descriptor)):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _append(self, line: bytes) -> None:
        descriptor = self._locked(self._file())
        try:
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a crash left a partial line
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
        """See `FeedbackStore.close`. Waiting lines are written first; no file stays open between two lines."""
        await asyncio.to_thread(self._thread.shutdown)


def _rewrite(path: Path, lines: BinaryIO, belongs: Belongs) -> None:
    """Replace a file by one without some of its lines."""
    mode = os.fstat(lines.fileno()).st_mode & 0o777
    lines.seek(0)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as left:
            left.writelines(line for line in lines if not belongs(line))
            left.flush()
            os.fchmod(left.fileno(), mode)
            os.fsync(left.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class RedisFeedback:
    """`FeedbackStore` in a Redis stream: one entry a line, in the field `f`. The reader of the stream trims it.

    Parameters
    ----------
    url : str
        redis://host:port/db, with ?stream=NAME for another stream than "mtaw:feedback".
    timeout : float
        Seconds to connect, and for a reply.
    password : str, optional
        The password of Redis.

    Raises
    ------
    UsageError
        If the address is not one of Redis.
    MissingPackageError
        If the package redis is not installed.
    """

    def __init__(self, url: str, timeout: float, password: str | None = None) -> None:
        self._lost = require("redis.exceptions", "serve").ConnectionError
        try:
            parts = urlsplit(url)
            unknown = set(parse_qs(parts.query)) - {"stream"}
            if unknown:
                raise ValueError(f"it may name a stream, and names {', '.join(sorted(unknown))}")
            self._stream = parse_qs(parts.query).get("stream", [FEEDBACK_STREAM])[0]
            self._client = redis_client(urlunsplit(parts._replace(query="")), timeout, password)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"--feedback: not an address of Redis ({error}); give redis://host:6379/0, optionally with ?stream=NAME"
            ) from None

    async def keep(self, line: bytes) -> None:
        """See `FeedbackStore.keep`."""
        try:
            await self._client.xadd(self._stream, {_FIELD: line})
        except self._lost:
            # Redis may have restarted: then every open connection is dead, and only using it shows that.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            await self._client.xadd(self._stream, {_FIELD: line})

    async def forget(self, belongs: Belongs) -> None:
        """See `FeedbackStore.forget`."""
        least = "-"
        while entries := await self._client.xrange(self._stream, min=least, count=_READ_ENTRIES):
            gone = [identity for identity, values in entries if belongs(values.get(_FIELD, b""))]
            if gone:
                await self._client.xdel(self._stream, *gone)
            least = b"(" + entries[-1][0]

    async def close(self) -> None:
        """See `FeedbackStore.close`."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def open_feedback(settings: Settings, timeout: float) -> FeedbackStore | None:
    """Return the store that `--feedback` names, None without one. timeout: see `RedisFeedback`.

    Raises UsageError if the store cannot be used.
    """
    where = settings.feedback
    if where is None:
        return None
    if where.startswith(REDIS):
        return RedisFeedback(where, timeout, settings.sessions_password)
    path = Path(where)
    return FeedbackFile(path, folder=where.endswith(os.sep) or path.is_dir())
