"""What a log of events is to those who write to it and read it, wherever it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from mtaw_fast.online.log.events import Event

START = ""  # the position before everything


class Stamped(NamedTuple):
    """An event and the position after it."""

    event: Event
    position: str


class EventLog(Protocol):
    """Where events are kept and read from, in one order for everybody. Thread-safe."""

    identity: str
    damaged: int

    def append(self, events: Sequence[Event]) -> str:
        """Keep events; returns the position after the last.

        Raises LearnError where they could not be kept, or where one takes more than `MOST_RECORD` bytes.
        """
        ...

    def read(self, after: str, limit: int = 10_000) -> list[Stamped]:
        """The next events after a position, at most `limit`, empty where there are none yet.

        Raises LearnError where the log cannot be read now.
        """
        ...

    def redact(self, forgotten: Mapping[str, str]) -> int:
        """Leave no trace of what sessions clicked before a position, by their ids; returns how many records there were.

        Raises LearnError where the log cannot be read or written: some may be gone then.
        """
        ...

    def expire(self, before: str, most_bytes: int) -> int:
        """Delete the oldest events up to a position where the log takes more than `most_bytes`; returns how many."""
        ...

    def close(self) -> None:
        """Let go of files, threads and connections."""
        ...
