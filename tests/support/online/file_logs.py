"""Clicks for a log in a folder, its events, faults for it and its threads, and what is left open after them."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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


def open_segments(folder: Path) -> list[str]:
    """Return the paths of the log's segments that this process has open, once per descriptor."""
    paths = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [path for path in paths if path.startswith(f"{folder}/events-")]


def raises(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises an error whatever it is given."""

    def failing(*_: Any, **__: Any) -> Any:
        raise error

    return failing


def system_error(code: int = errno.EIO) -> OSError:
    return OSError(code, os.strerror(code))


def cannot_start(patch: pytest.MonkeyPatch, name: str) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        real(thread)

    patch.setattr(threading.Thread, "start", start)
