"""Overwriting records in one segment of a log in a folder, while others append to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from mtaw_fast.live.events import Click, parse


def blank_clicks(path: Path, forgotten: Mapping[str, str], position_at: Callable[[int], str]) -> int:
    """Overwrite clicks of sessions with blanks and flush; returns how many there were.

    Parameters
    ----------
    path : Path
        The segment.
    forgotten : mapping of str to str
        By session id: the position before which its clicks go.
    position_at : callable
        The position of an offset in the segment.

    Raises
    ------
    OSError
        Where it cannot be read or written.
    """
    count = begin = 0
    with path.open("r+b") as file:
        for line in file.read().split(b"\n"):
            end = begin + len(line) + 1
            session = _clicked_session(line)
            gone = session is not None and position_at(end) < forgotten.get(session, "")
            if gone or _half_blank(line):
                file.seek(begin)
                file.write(b" " * len(line))
                count += 1
            begin = end
        file.flush()
        os.fdatasync(file.fileno())
    return count


def _half_blank(line: bytes) -> bool:
    """Whether somebody was killed while overwriting it: no record begins with a blank."""
    return line[:1] == b" " and bool(line.strip(b" "))


def _clicked_session(line: bytes) -> str | None:
    """The session of a record that is a click; None of any other."""
    try:
        event = parse(line[9:])
    except (ValueError, KeyError, TypeError):
        return None
    return event.session if isinstance(event, Click) else None
