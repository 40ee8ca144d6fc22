"""Stores of rankings and of the feedback on them: JSON lines in files, or entries of Redis streams."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import mmap
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

import msgspec

from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.feedback_log import FEEDBACK, RANKINGS
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.ranking_ids import FEEDBACK_STREAM
from mtaw_fast.service.redis_client import connected, redis_client
from mtaw_fast.service.settings import REDIS, Settings

_FIELD = b"f"
_READ_ENTRIES = 1000  # of a stream, at once

_FLUSH_SECONDS = 0.1  # that a ranking waits to be written together with others
_MAX_WAITING = 50_000  # rankings that wait for a disk; beyond it they are lost

Belongs = Callable[[bytes], bool]  # whether a line belongs to a session


class FeedbackStore(Protocol):
    """Stores lines of JSON."""

    async def keep(self, lines: Sequence[bytes]) -> None:
        """Store lines of feedback, given without their ends. On an error, none of them is stored."""
        ...

    def record(self, line: bytes) -> None:
        """Store the line of a ranking soon, without waiting for it.

        A line that cannot be written is logged and lost.
        """
        ...

    async def forget(self, session: str, belongs: Belongs) -> None:
        """Remove the rankings of a session, and the lines of feedback that belong to it."""
        ...

    async def close(self) -> None:
        """Close files and connections."""
        ...


class _Buffer:
    """Rankings that wait to be written; every `_FLUSH_SECONDS` all of them are. write: stores lines."""

    def __init__(self, write: Callable[[list[bytes]], Awaitable[None]]) -> None:
        self._write = write
        self._writing = asyncio.Lock()  # one write at a time: what comes while the disk is stuck waits here
        self._lines: list[bytes] = []
        self._flushing: asyncio.Task[None] | None = None
        self._lost = 0

    def add(self, line: bytes) -> None:
        if len(self._lines) >= _MAX_WAITING:
            self._lost += 1
            return
        self._lines.append(line)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._later())

    async def _later(self) -> None:
        while self._lines:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()
        self._flushing = None

    async def flush(self) -> None:
        """Write all waiting rankings now, after those that are being written."""
        async with self._writing:
            lines, self._lines = self._lines, []
            if not lines:
                return
            try:
                await self._write(lines)
                lost, self._lost = self._lost, 0
                reason = "the disk or Redis was too slow"
            except Exception as error:  # disks and Redis raise errors of many types
                lost, self._lost = self._lost + len(lines), 0
                reason = type(error).__name__
            if lost:
                log_event("rankings_not_kept", level="error", count=lost, reason=reason)

    async def close(self) -> None:
        """Write the rest."""
        await self.flush()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None


class FeedbackFile:
    """`FeedbackStore` that appends to FILE and FILE.rankings, or in a folder to two files a day (UTC):
    feedback-2026-11-26.jsonl and rankings-2026-11-26.jsonl.

    Any number of processes can share it: each write is one, under a lock. If a file is moved away (logrotate), the
    next line begins a new one. A line is whole or absent: what a full disk took of it is cut off again.
    """

    def __init__(self, path: Path, folder: bool) -> None:
        """Raises UsageError if the path cannot be written."""
        self._path, self._folder = path, folder
        self._thread = ThreadPoolExecutor(1, "feedback")
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writing = False
        self._rankings = _Buffer(self._write_rankings)
        try:
            if folder:
                path.mkdir(parents=True, exist_ok=True)
            os.close(self._open(self._file()))
        except OSError as error:
            raise UsageError(
                f"--feedback {path}: it cannot be written ({error.strerror}); name a file or a folder that can"
            ) from None

    def _file(self, kind: str = FEEDBACK) -> Path:
        if self._folder:
            return self._path / f"{kind}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
        return self._path if kind == FEEDBACK else self._path.with_name(f"{self._path.name}.{kind}")

    def _files(self, kind: str) -> list[Path]:
        return sorted(self._path.glob(f"{kind}-*.jsonl")) if self._folder else [self._file(kind)]

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    async def keep(self, lines: Sequence[bytes]) -> None:
        """See `FeedbackStore.keep`. One thread writes, so that a slow disk stops nothing else; lines that came while
        it wrote are written together."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[None] = loop.create_future()
        self._waiting.append((b"\n".join(lines), outcome))
        if not self._writing:
            self._write_waiting(loop)
        await outcome

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        lines, self._waiting = self._waiting, []
        self._writing = bool(lines)
        if not lines:
            return

        def done(written: asyncio.Future[None]) -> None:
            error = written.exception()
            for _, outcome in lines:
                if not outcome.done():  # its client may have gone
                    outcome.set_result(None) if error is None else outcome.set_exception(error)
            self._write_waiting(loop)

        data = b"\n".join(line for line, _ in lines)
        loop.run_in_executor(self._thread, self._append, data).add_done_callback(done)

    def record(self, line: bytes) -> None:
        """See `FeedbackStore.record`."""
        self._rankings.add(line)

    async def _write_rankings(self, lines: list[bytes]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._append, b"\n".join(lines), RANKINGS)

    async def forget(self, session: str, belongs: Belongs) -> None:
        """See `FeedbackStore.forget`. A file with such lines is replaced by one without them, which no kill leaves half
        done. Files that were moved away are not found."""
        await self._rankings.flush()
        await asyncio.sleep(2 * _FLUSH_SECONDS)  # the other workers write theirs
        await asyncio.get_running_loop().run_in_executor(self._thread, self._forget, session, belongs)

    def _forget(self, session: str, belongs: Belongs) -> None:
        for path in self._files(RANKINGS):
            self._remove(path, _is_of(session), session_fields(session))
        for path in self._files(FEEDBACK):
            self._remove(path, belongs)

    def _remove(self, path: Path, belongs: Belongs, texts: Sequence[bytes] = ()) -> None:
        """Remove the lines that `belongs` selects from a file.

        texts: each such line contains one of them. Files without any of the texts are searched, but not parsed.
        """
        if not path.exists():
            return
        descriptor = self._locked(path)
        try:
            with open(descriptor, "rb", closefd=False) as lines:
                if _contains(descriptor, texts) if texts else any(map(belongs, lines)):
                    _rewrite(path, lines, belongs)
        finally:
            os.close(descriptor)

    def _locked(self, path: Path) -> int:
        """Open a file and lock it. If it was moved or replaced while waiting, open it again."""
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

    def _append(self, line: bytes, kind: str = FEEDBACK) -> None:
        descriptor = self._locked(self._file(kind))
        try:
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a crash left a partial line
                line = b"\n" + line
            data = line + b"\n"
            written = 0
            try:
                while written < len(data):
                    written += os.write(descriptor, data[written:])
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """See `FeedbackStore.close`. Waiting lines are written first; no file stays open between two lines."""
        await self._rankings.close()
        await asyncio.to_thread(self._thread.shutdown)


def session_fields(session: str) -> list[bytes]:
    """Return the texts of which a ranking's line contains one exactly if the ranking is of the session.

    No other text of a line contains them, because JSON escapes quotes. There are two spellings, because a line with
    half a surrogate pair is written in ASCII.
    """
    texts = [json.dumps(session).encode()]
    with contextlib.suppress(UnicodeEncodeError):
        texts.append(msgspec.json.encode(session))
    return [b'"session":' + text + b"," for text in texts]


def _is_of(session: str) -> Belongs:
    fields = session_fields(session)
    return lambda line: any(field in line for field in fields)


def _contains(descriptor: int, texts: Sequence[bytes]) -> bool:
    if not os.fstat(descriptor).st_size:
        return False
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(text) >= 0 for text in texts)


def _rewrite(path: Path, lines: BinaryIO, belongs: Belongs) -> None:
    """Replace a file, which is locked, by one without some of its lines."""
    mode = os.fstat(lines.fileno()).st_mode & 0o777
    lines.seek(0)
    # Always the same name: what a kill left there, with lines of other sessions, is replaced and not kept for ever.
    draft = path.with_name(f".{path.name}.draft")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
            file.writelines(line for line in lines if not belongs(line))
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


class RedisFeedback:
    """`FeedbackStore` in two Redis streams, NAME and NAME:rankings: one entry a line, in the field `f`. The reader of
    the streams trims them.

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
        self._ranked = f"{self._stream}:{RANKINGS}"
        self._rankings = _Buffer(self._write_rankings)

    def record(self, line: bytes) -> None:
        """See `FeedbackStore.record`."""
        self._rankings.add(line)

    async def _write_rankings(self, lines: list[bytes]) -> None:
        await self._add(self._ranked, lines)

    async def keep(self, lines: Sequence[bytes]) -> None:
        """See `FeedbackStore.keep`."""
        await self._add(self._stream, lines)

    async def _add(self, stream: str, lines: Sequence[bytes]) -> None:
        await connected(self._client, lambda: self._add_once(stream, lines))

    async def _add_once(self, stream: str, lines: Sequence[bytes]) -> None:
        async with self._client.pipeline(transaction=True) as steps:
            for line in lines:
                steps.xadd(stream, {_FIELD: line})
            await steps.execute()

    async def forget(self, session: str, belongs: Belongs) -> None:
        """See `FeedbackStore.forget`."""
        await self._rankings.flush()
        await asyncio.sleep(2 * _FLUSH_SECONDS)  # the other workers write theirs
        for stream, selects in ((self._ranked, _is_of(session)), (self._stream, belongs)):
            await connected(self._client, partial(self._remove, stream, selects))

    async def _remove(self, stream: str, belongs: Belongs) -> None:
        start = "-"
        while entries := await self._client.xrange(stream, min=start, count=_READ_ENTRIES):
            identities = [identity for identity, values in entries if belongs(values.get(_FIELD, b""))]
            if identities:
                await self._client.xdel(stream, *identities)
            start = b"(" + entries[-1][0]

    async def close(self) -> None:
        """See `FeedbackStore.close`."""
        await self._rankings.close()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


def open_feedback(settings: Settings, timeout: float) -> FeedbackStore | None:
    """Return the store that `--feedback` names, None without one. timeout: see `RedisFeedback`.

    Raises UsageError if the store cannot be used.
    """
    location = settings.feedback
    if location is None:
        return None
    if location.startswith(REDIS):
        return RedisFeedback(location, timeout, settings.sessions_password)
    path = Path(location)
    return FeedbackFile(path, folder=location.endswith(os.sep) or path.is_dir())
