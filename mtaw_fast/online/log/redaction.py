"""Overwriting records in one segment of a log in a folder, while others append to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.record import event_of


def redact_clicks(path: Path, forgotten: Mapping[str, str], position_at: Callable[[int], str]) -> int:
    """Overwrite clicks of sessions, and every damaged record before the last request, with blanks, and flush.

    What is damaged may be half a click of such a session: of an append that was refused, or of overwriting that a loss
    of power cut short. No reader learns from it, and all of it is older than a request that stands behind it.

    Parameters
    ----------
    path : Path
        The segment.
    forgotten : mapping of str to str
        By session id: the position before which its clicks go.
    position_at : callable
        The position of an offset in the segment.

    Returns
    -------
    int
        How many records there were.

    Raises
    ------
    OSError
        Where it cannot be read or written.
    """
    last = max(forgotten.values(), default="")
    count = begin = 0
    with path.open("r+b") as file:
        for line in file.read().split(b"\n"):
            end = begin + len(line) + 1
            position = position_at(end)
            if position < last and line.strip(b" ") and _goes(line, position, forgotten):
                file.seek(begin)
                file.write(b" " * len(line))
                count += 1
            begin = end
        file.flush()
        os.fdatasync(file.fileno())
    return count


def _goes(line: bytes, position: str, forgotten: Mapping[str, str]) -> bool:
    """Whether a record is damaged, or a click that is to be forgotten."""
    try:
        event = event_of(line)
    except (ValueError, KeyError, TypeError):
        return True
    return isinstance(event, Click) and position < forgotten.get(event.session, "")
