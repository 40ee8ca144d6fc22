"""Clicks for a log in a folder, and its events."""

from __future__ import annotations

from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click, Event
from mtaw_fast.online.log.file_log import FileLog


def click(number: int, session: str = "s") -> Click:
    return Click(session, f"item {number}", 1_000 + number, id=str(number))


def events_of(log: FileLog, after: str = START) -> list[Event]:
    """Return all events, read a few at a time."""
    events: list[Event] = []
    while entries := log.read(after, 7):
        events += [entry.event for entry in entries]
        after = entries[-1].position
    return events
