"""The interface of an event log, whatever stores it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from mtaw_fast.online.log.events import Event

START = ""  # the position before everything


class LogEntry(NamedTuple):
    """An event and the position after it."""

    event: Event
    position: str


class EventLog(Protocol):
    """Stores events in one order that every reader sees. Thread-safe.

    identity: names this log; a position means something only together with it. damaged: records that were skipped.
    """

    @property
    def identity(self) -> str: ...
    @property
    def damaged(self) -> int: ...

    def append(self, events: Sequence[Event]) -> str:
        """Store events; return the position after the last.

        Raises LearnError if they could not be stored, or if one takes more than `MAX_RECORD_BYTES`.
        """
        ...

    def read(self, after: str, limit: int = 10_000) -> list[LogEntry]:
        """Return the next events after a position: at most `limit`, none if there are none yet.

        Raises LearnError if the log cannot be read now.
        """
        ...

    def end(self) -> str:
        """Return a position that no event in the log now comes after. Raises LearnError as `read` does."""
        ...

    def flush(self, after: str) -> None:
        """Make the events after a position survive a power loss. Raises LearnError if that fails."""
        ...

    def lag(self, after: str) -> int:
        """Return about how many events follow a position, without reading them."""
        ...

    def redact(self, forgotten: Mapping[str, str]) -> int:
        """Remove the clicks of sessions before a position each, by session id; return how many records there were.

        Raises LearnError if the log cannot be read or written: some records may be gone then.
        """
        ...

    def remove(self, positions: Sequence[str]) -> None:
        """Remove events, each by the position after it. Raises LearnError as `redact` does."""
        ...

    def expire(self, before: str, max_bytes: int) -> int:
        """Delete the oldest events before a position while the log takes more than `max_bytes`; return how many."""
        ...

    def note_reader(self, reader: str, position: str) -> None:
        """Note that the compacted bundle of a reader has learned up to a position, and that the reader is alive."""
        ...

    def read_by_all(self, reader: str, position: str) -> str:
        """Return the position up to which the bundles of all readers have learned, if that of `reader` is `position`.

        Whoever reads on from such a bundle must find everything after it.
        """
        ...

    def note_cut(self, position: str) -> None:
        """Note that events before a position may be gone."""
        ...

    def cut(self) -> str:
        """Return the position before which another reader has removed events; START if none has."""
        ...

    def close(self) -> None:
        """Release files, threads and connections."""
        ...
