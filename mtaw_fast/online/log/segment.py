"""The records of one segment file of the log: one line each, `<CRC-32 in 8 hex digits> <JSON>`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from mtaw_fast.online.log.events import Click, Event, parse

FRAME_BYTES = 10  # of a record beside its JSON: the sum, a blank and the line's end


def framed(line: bytes) -> bytes:
    """The record of an event's JSON, with its end."""
    return b"%08x %b\n" % (zlib.crc32(line), line)


def event_of(record: bytes) -> Event | None:
    """The event of a record without its end; None where it is of a kind that this release does not know.

    Raises
    ------
    ValueError, KeyError, TypeError
        Where it is damaged: no reader learns from it.
    """
    text = record[9:]
    if record[8:9] != b" " or int(record[:8], 16) != zlib.crc32(text):
        raise ValueError("its checksum differs")
    return parse(text)


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
