"""The event log as a Redis stream that several hosts share."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from mtaw_fast.errors import LearnError, UsageError, require
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Click, Event, parse
from mtaw_fast.online.log.segment import checked_line
from mtaw_fast.system import host

_STREAM = "mtaw:events"
_FIELD = b"e"
_TIMEOUT = 2.0  # seconds
ABSENT_SECONDS = 7 * 86_400
_CUT = b"cut"  # a field next to the readers' own, which have 32 digits
_REMOVED = 1_000  # entries in one command
_PASSWORD = "MTAW_REDIS_PASSWORD"  # an environment variable: every user can read command lines
_LOG = logging.getLogger("mtaw_fast.online")
_LENGTHS: dict[tuple[str, str], int] = {}  # of streams by address and name, at this process's last append or first use


class RedisLog:
    """An `EventLog` in a Redis stream. Positions are the stream's entry ids, padded to a fixed width so that they sort.

    An append is acknowledged when Redis has it. What survives a crash follows from Redis' own settings (appendonly,
    appendfsync).

    url: redis://host:port/db, with ?stream=NAME for another stream than "mtaw:events". The environment variable
    MTAW_REDIS_PASSWORD may hold the password. Raises UsageError if it is not an address of Redis, LearnError if Redis
    does not answer, MissingPackageError without the package redis.
    """

    def __init__(self, url: str) -> None:
        redis = require("redis", "serve")
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise UsageError(f"{url!r} is not an address of Redis; write redis://host:port/db?stream=name")
        query = parse_qs(parts.query)
        self._name = query.get("stream", [_STREAM])[0]
        self._where = f"{parts.hostname}:{parts.port or 6379}"
        self._error = redis.RedisError
        address = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        options: dict[str, Any] = {"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT}
        password = os.environ.get(_PASSWORD)
        if password:
            options["password"] = password.strip()
        self._redis = host.connect(redis.Redis, address, **options)
        self.identity = f"redis:{self._name}"
        self._readers = f"{self._name}:readers"
        self.damaged = 0
        self._last_damage = ""  # position of the last damaged entry that was logged
        self._empty = ("", "")  # two positions with no event between them
        self._stream = address, self._name
        self._read_length = 0  # up to where it was read
        # Another log of this process may have appended; what the stream holds now is no news of this process.
        _LENGTHS.setdefault(self._stream, self._call("xlen", self._name))

    def append(self, events: Sequence[Event]) -> str:
        """See `EventLog.append`: all of them or none."""
        lines = [checked_line(event, f"the stream {self._name}") for event in events]
        try:
            pipeline = self._redis.pipeline(transaction=True)
            for line in lines:
                pipeline.xadd(self._name, {_FIELD: line})
            pipeline.xlen(self._name)
            *_, last, _LENGTHS[self._stream] = pipeline.execute()
            return _position(last)
        except self._error as error:
            raise LearnError(f"Redis at {self._where} did not keep the events: {error}; send them again") from None

    def read(self, after: str, limit: int = 10_000) -> list[LogEntry]:
        events: list[LogEntry] = []
        start, appended = after, _LENGTHS[self._stream]
        empty_from, empty_until = self._empty  # at once: while a learner switches bundles, two threads read
        if start == empty_from:
            after = empty_until
        while len(events) < limit:
            first = f"({_identity(after)}" if after else "-"
            entries = self._call("xrange", self._name, min=first, count=limit - len(events))
            for identity, values in entries:
                after = _position(identity)
                event = self._event(after, values)
                if event is not None:
                    events.append(LogEntry(event, after))
            if not entries:
                break
        if not events:
            self._empty = start, after
        if len(events) == limit:
            self._read_length += limit
        else:  # all that was appended before is read; the stream may have been trimmed since
            self._read_length = max(appended, self._call("xlen", self._name) if events else self._read_length)
        return events

    def end(self) -> str:
        newest = self._call("xrevrange", self._name, count=1)
        return _position(newest[0][0]) if newest else START

    def flush(self, after: str) -> None:
        """Do nothing: Redis' own settings decide what survives."""

    def lag(self, after: str) -> int:  # noqa: ARG002
        """See `EventLog.lag`: counted from what this object last read, up to what this process last appended."""
        return max(0, _LENGTHS[self._stream] - self._read_length)

    def _event(self, identity: str, values: Any) -> Event | None:
        try:
            return parse(values[_FIELD])
        except (ValueError, KeyError, TypeError) as error:
            if identity <= self._last_damage:
                return None  # logged when it was read before
            self._last_damage = identity
            self.damaged += 1
            _LOG.warning("stream %s, entry %s: skipped a damaged record (%s)", self._name, identity, error)
            return None

    def expire(self, before: str, max_bytes: int) -> int:
        size = self._call("memory_usage", self._name) or 0
        if size <= max_bytes:
            return 0
        return self._call("xtrim", self._name, minid=_identity(before), approximate=False)

    def redact(self, forgotten: Mapping[str, str]) -> int:
        """See `EventLog.redact`. The requests to forget stay, as in a folder's log."""
        count, position, last = 0, "", max(forgotten.values(), default="")
        while position < last and (entries := self.read(position)):
            identities = [
                _identity(entry.position)
                for entry in entries
                if isinstance(entry.event, Click) and entry.position < forgotten.get(entry.event.session, "")
            ]
            if identities:
                count += self._call("xdel", self._name, *identities)
            position = entries[-1].position
        return count

    def remove(self, positions: Sequence[str]) -> None:
        for begin in range(0, len(positions), _REMOVED):
            self._call("xdel", self._name, *map(_identity, positions[begin : begin + _REMOVED]))

    # Each machine begins with a bundle of its own: the hash <stream>:readers has its position, and when it was heard of

    def note_reader(self, reader: str, position: str) -> None:
        self._call("hset", self._readers, reader, f"{position} {self._seconds()}")

    def read_by_all(self, reader: str, position: str) -> str:
        """See `EventLog.read_by_all`. A reader that was not heard of for `ABSENT_SECONDS` is not waited for."""
        positions, now = [position], self._seconds()
        for name, value in self._call("hgetall", self._readers).items():
            place, _, heard = value.decode().rpartition(" ")
            if name == _CUT or name.decode() == reader:
                continue
            if now - int(heard) > ABSENT_SECONDS:
                _LOG.warning(
                    "stream %s: the machine %s was not heard of for %d days; the stream is cut without it", self._name,
                    name.decode(), ABSENT_SECONDS // 86_400,
                )  # fmt: skip
                self._call("hdel", self._readers, name)
            else:
                positions.append(place)
        return min(positions)

    def note_cut(self, position: str) -> None:
        if position > self.cut():
            self._call("hset", self._readers, _CUT, f"{position} {self._seconds()}")

    def cut(self) -> str:
        value = self._call("hget", self._readers, _CUT)
        return START if value is None else value.decode().rpartition(" ")[0]

    def _seconds(self) -> int:
        return int(self._call("time")[0])

    def close(self) -> None:
        self._redis.close()

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(self._redis, name)(*arguments, **named)
        except self._error as error:
            raise LearnError(
                f"Redis at {self._where} does not answer: {error}; start Redis or give another address"
            ) from None


def _position(identity: bytes) -> str:
    """Return the position of an entry id `<milliseconds>-<number>`."""
    moment, _, number = identity.decode().partition("-")
    return f"{int(moment):015d}-{int(number):010d}"


def _identity(position: str) -> str:
    """Return the entry id of a position. Raises LearnError if it is not a position."""
    moment, dash, number = position.partition("-")
    if not (dash and moment.isdigit() and number.isdigit()):
        raise LearnError(f"{position!r} is not a position of a Redis stream; write <milliseconds>-<number>")
    return f"{int(moment)}-{int(number)}"
