"""Stores of rankings and of the feedback on them: a SQLite file, or two streams of Redis."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.experiment.feedback_file import NAME, FeedbackFile, Report, line_of
from mtaw_fast.experiment.lines import RankingLine, ReportLine
from mtaw_fast.experiment.redis_streams import REDIS, redis_address
from mtaw_fast.experiment.sources import RANKINGS, days_of
from mtaw_fast.service.errors import unavailable
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.ranking_ids import session_code, session_code_in
from mtaw_fast.service.redis_client import connected, redis_client
from mtaw_fast.service.settings import Settings

T = TypeVar("T")

DAY_MS = 86_400_000
_FLUSH_SECONDS = 0.1  # that a ranking waits to be written together with others
_MAX_WAITING = 50_000  # rankings that wait for a disk; beyond it they are lost
_MAX_FORGETS = 256  # sessions that wait for their deletion
_FORGET_AT_ONCE = 16
_DROP_SECONDS = 60.0  # between two looks for old days
_PAUSE_SECONDS = 0.05  # between two steps that drop rows
_ENTRIES_AT_ONCE = 500  # of an index in Redis
_TRIM_ENTRIES = 10_000  # of a stream, at once


class FeedbackStore(Protocol):
    """Stores rankings and reports."""

    async def keep(self, reports: Sequence[ReportLine]) -> None:
        """Store reports. On an error, none of them is stored."""
        ...

    def record(self, ranking: RankingLine) -> None:
        """Store a ranking soon, without waiting for it. One that cannot be written is logged and lost."""
        ...

    async def forget(self, session: str, has_left: Callable[[], bool]) -> None:
        """Remove the rankings of a session and the reports on them, and those that name it.

        has_left: whether the client has gone; the session is then left as it is. Raises ServiceError (503) if too many
        sessions wait.
        """
        ...

    async def drop_before(self, time_ms: int) -> bool:
        """Remove some rankings and reports from before a time; return whether there may be more."""
        ...

    async def close(self) -> None:
        """Close files and connections."""
        ...


async def keep_days(store: FeedbackStore, days: int) -> None:
    """Remove what is from before the last `days` days (UTC) and today, in small steps, until it is cancelled."""
    while True:
        oldest = (time.time_ns() // 1_000_000 // DAY_MS - days) * DAY_MS
        try:
            while await store.drop_before(oldest):
                await asyncio.sleep(_PAUSE_SECONDS)
        except Exception as error:  # disks and Redis raise errors of many types
            log_event("feedback_not_dropped", level="error", reason=type(error).__name__)
        await asyncio.sleep(_DROP_SECONDS)


class _Buffer(Generic[T]):
    """Rankings that wait to be written; every `_FLUSH_SECONDS` all of them are. write: stores rankings."""

    def __init__(self, write: Callable[[list[T]], Awaitable[None]]) -> None:
        self._write = write
        self._writing = asyncio.Lock()  # one write at a time: what comes while the disk is stuck waits here
        self._lines: list[T] = []
        self._flushing: asyncio.Task[None] | None = None
        self._lost = 0

    def add(self, line: T) -> None:
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


@dataclass(slots=True)
class _Deletion:
    """A session to forget. time: Unix milliseconds of the newest request. clients: that wait for it."""

    time: int
    clients: list[tuple[asyncio.Future[None], Callable[[], bool]]] = field(default_factory=list)


class _Forgets:
    """Sessions that wait to be forgotten, several in one step. Requests for one session are one deletion.

    step: takes the time of each deletion by session, does a bounded part of the work, and returns the sessions of which
    nothing is left. Between two steps, feedback is stored.
    """

    def __init__(self, step: Callable[[Mapping[str, int]], Awaitable[set[str]]]) -> None:
        self._step = step
        self._waiting: dict[str, _Deletion] = {}
        self._task: asyncio.Task[None] | None = None

    async def forget(self, session: str, has_left: Callable[[], bool]) -> None:
        """Return when the session is forgotten. Raises as `FeedbackStore.forget`."""
        if session not in self._waiting and len(self._waiting) >= _MAX_FORGETS:
            raise unavailable("overloaded", f"{_MAX_FORGETS} sessions wait to be deleted already; try again")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[None] = loop.create_future()
        self._add(session, _Deletion(time.time_ns() // 1_000_000, [(outcome, has_left)]))
        if self._task is None:
            self._task = loop.create_task(self._work())
        await outcome

    def _add(self, session: str, deletion: _Deletion) -> None:
        known = self._waiting.setdefault(session, deletion)
        if known is not deletion:
            known.time = max(known.time, deletion.time)
            known.clients += deletion.clients

    async def _work(self) -> None:
        while self._waiting:
            taken: dict[str, _Deletion] = {}
            while self._waiting and len(taken) < _FORGET_AT_ONCE:
                session = next(iter(self._waiting))
                deletion = self._waiting.pop(session)
                if any(not has_left() for _, has_left in deletion.clients):
                    taken[session] = deletion
                else:
                    _settle(deletion, ConnectionResetError())
            if not taken:
                continue
            try:
                done = await self._step({session: deletion.time for session, deletion in taken.items()})
            except Exception as error:  # disks and Redis raise errors of many types
                for deletion in taken.values():
                    _settle(deletion, error)
                continue
            for session, deletion in taken.items():
                if session in done:
                    _settle(deletion)
                else:
                    self._add(session, deletion)
        self._task = None

    async def close(self) -> None:
        """Wait for the step that is running; what waits is not forgotten."""
        waiting, self._waiting = self._waiting, {}
        for deletion in waiting.values():
            _settle(deletion, ConnectionResetError())
        if self._task is not None:
            await self._task


def _settle(deletion: _Deletion, error: Exception | None = None) -> None:
    for outcome, _ in deletion.clients:
        if not outcome.done():  # its request may have been cancelled
            outcome.set_result(None) if error is None else outcome.set_exception(error)


def _report(line: ReportLine) -> Report:
    return Report(line, session_code_in(line.recommendation))


class SqliteFeedback:
    """`FeedbackStore` in a SQLite file, see `FeedbackFile`, which any number of processes can share.

    One thread writes, so that a slow disk stops nothing else. What comes while it writes is written together.

    Parameters
    ----------
    path : Path
        The file, or a folder for `feedback.sqlite`.
    folder : bool
        Whether `path` is a folder; it is made if it is missing.

    Raises
    ------
    UsageError
        If the path cannot be written, or holds something else.
    """

    def __init__(self, path: Path, folder: bool) -> None:
        self._thread = ThreadPoolExecutor(1, "feedback")
        self._waiting: list[tuple[Sequence[ReportLine], asyncio.Future[None]]] = []
        self._writing = False
        self._rankings = _Buffer(self._write_rankings)
        self._forgets = _Forgets(self._forget)
        try:
            if folder:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if days_of(path) if folder else path.with_name(f"{path.name}.{RANKINGS}").exists():
                raise UsageError(
                    f"--feedback {path}: it has JSON lines, which deletions of sessions would not reach; import them "
                    f"with 'mtaw-fast experiment NEW/ --import {path}', and serve with --feedback NEW/"
                )
            self._file = FeedbackFile(path / NAME if folder else path, session_code)
        except OSError as error:
            raise UsageError(
                f"--feedback {path}: it cannot be written ({error.strerror}); name a file or a folder that can"
            ) from None
        except DataError as error:
            raise UsageError(f"--feedback: {error}") from None

    async def keep(self, reports: Sequence[ReportLine]) -> None:
        """See `FeedbackStore.keep`."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((reports, outcome))
        if not self._writing:
            self._write_waiting()
        await outcome

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._writing = bool(waiting)
        if not waiting:
            return

        def done(written: asyncio.Future[None]) -> None:
            error = written.exception()
            for _, outcome in waiting:
                if not outcome.done():  # its client may have gone
                    outcome.set_result(None) if error is None else outcome.set_exception(error)
            self._write_waiting()

        reports = [_report(line) for lines, _ in waiting for line in lines]
        asyncio.ensure_future(self._in_thread(self._file.append, [], reports)).add_done_callback(done)

    def record(self, ranking: RankingLine) -> None:
        """See `FeedbackStore.record`."""
        self._rankings.add(ranking)

    async def _write_rankings(self, rankings: list[RankingLine]) -> None:
        await self._in_thread(self._file.append, rankings, [])

    async def forget(self, session: str, has_left: Callable[[], bool]) -> None:
        """See `FeedbackStore.forget`. Rankings that are still on their way to the disk are dropped there."""
        await self._forgets.forget(session, has_left)

    async def _forget(self, sessions: Mapping[str, int]) -> set[str]:
        return await self._in_thread(self._file.forget, sessions)

    async def drop_before(self, time_ms: int) -> bool:
        """See `FeedbackStore.drop_before`."""
        return await self._in_thread(self._file.drop_before, time_ms)

    def _in_thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def close(self) -> None:
        """See `FeedbackStore.close`. Waiting rankings are written first."""
        await self._forgets.close()
        await self._rankings.close()
        await asyncio.to_thread(self._thread.shutdown)
        self._file.close()


# A script, so that no entry is without its place in the index of its session. The first line is for Redis 5 and 6.
_ADD = """
if redis.replicate_commands then redis.replicate_commands() end
for place = 3, #ARGV, 3 do
  local entry = redis.call('XADD', KEYS[1], '*', 'f', ARGV[place])
  for owner = place + 1, place + 2 do
    if ARGV[owner] ~= '' then
      redis.call('SADD', ARGV[owner], ARGV[1] .. entry)
      if ARGV[2] ~= '0' then redis.call('EXPIRE', ARGV[owner], ARGV[2]) end
    end
  end
end
"""


class RedisFeedback:
    """`FeedbackStore` in two Redis streams, NAME and NAME:rankings: one entry a line, in the field `f`.

    The set NAME:session:CODE has the entries of a session, as r or f and their ids.

    Parameters
    ----------
    url : str
        redis://host:port/db or unix://path, with ?stream=NAME for another stream than "mtaw:feedback".
    timeout : float
        Seconds to connect, and for a reply.
    password : str, optional
        The password of Redis.
    days : int, optional
        After so many days without a new entry and one more, a session's set expires.

    Raises
    ------
    UsageError
        If the address is not one of Redis.
    MissingPackageError
        If the package redis is not installed.
    """

    def __init__(self, url: str, timeout: float, password: str | None = None, days: int | None = None) -> None:
        try:
            address, self._stream = redis_address(url)
            self._client = redis_client(address, timeout, password)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"--feedback: not an address of Redis ({error}); give redis://host:6379/0 or unix:///path, optionally "
                "with ?stream=NAME"
            ) from None
        self._ranked = f"{self._stream}:{RANKINGS}"
        self._seconds = 0 if days is None else (days + 1) * DAY_MS // 1000
        self._rankings = _Buffer(self._write_rankings)
        self._forgets = _Forgets(self._forget)

    def record(self, ranking: RankingLine) -> None:
        """See `FeedbackStore.record`."""
        self._rankings.add(ranking)

    async def _write_rankings(self, rankings: list[RankingLine]) -> None:
        entries = []
        for line in rankings:
            entries += [line_of(line), self._index(session_code(line.session)) if line.session else "", ""]
        await self._add(self._ranked, "r", entries)

    async def keep(self, reports: Sequence[ReportLine]) -> None:
        """See `FeedbackStore.keep`."""
        entries = []
        for line in reports:
            named = self._index(session_code(line.session)) if line.session else ""
            entries += [line_of(line), self._index(session_code_in(line.recommendation)), named]
        await self._add(self._stream, "f", entries)

    def _index(self, code: int) -> str:
        return f"{self._stream}:session:{code:010x}"

    async def _add(self, stream: str, kind: str, entries: list[Any]) -> None:
        await connected(self._client, lambda: self._client.eval(_ADD, 1, stream, kind, self._seconds, *entries))

    async def forget(self, session: str, has_left: Callable[[], bool]) -> None:
        """See `FeedbackStore.forget`."""
        await self._forgets.forget(session, has_left)

    async def _forget(self, sessions: Mapping[str, int]) -> set[str]:
        await self._rankings.flush()
        await asyncio.sleep(2 * _FLUSH_SECONDS)  # the other workers write theirs
        return {session for session in sessions if await connected(self._client, partial(self._remove, session))}

    async def _remove(self, session: str) -> bool:
        """Remove some entries of a session; return whether nothing is left."""
        index = self._index(session_code(session))
        entries = await self._client.srandmember(index, _ENTRIES_AT_ONCE)
        if not entries:
            return True
        async with self._client.pipeline(transaction=True) as steps:
            for kind, stream in ((b"r", self._ranked), (b"f", self._stream)):
                of_kind = [entry[1:] for entry in entries if entry[:1] == kind]
                if of_kind:
                    steps.xdel(stream, *of_kind)
            steps.srem(index, *entries)
            await steps.execute()
        return len(entries) < _ENTRIES_AT_ONCE

    async def drop_before(self, time_ms: int) -> bool:
        """See `FeedbackStore.drop_before`."""
        for stream in (self._ranked, self._stream):
            trim = partial(self._client.xtrim, stream, minid=time_ms)
            if await connected(self._client, partial(trim, approximate=True, limit=_TRIM_ENTRIES)):
                return True
            await connected(self._client, partial(trim, approximate=False))  # the rest of a block of entries
        return False

    async def close(self) -> None:
        """See `FeedbackStore.close`."""
        await self._forgets.close()
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
        return RedisFeedback(location, timeout, settings.sessions_password, settings.feedback_retention)
    path = Path(location)
    return SqliteFeedback(path, folder=location.endswith(os.sep) or path.is_dir())
