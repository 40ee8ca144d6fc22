"""The records of one segment file of the log: one line each, `<CRC-32 in 8 hex digits> <JSON>`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from mtaw_fast.online.log.events import Click, Event, parse

FRAME_BYTES = 10  # of a record without its JSON: the checksum, a space and the newline


def record_of(line: bytes) -> bytes:
    """Return the record of an event's JSON, with its newline."""
    return b"%08x %b\n" % (zlib.crc32(line), line)


def parse_record(record: bytes) -> Event | None:
    """Return the event of a record without its newline, or None if this release does not know its kind.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the record is damaged.
    """
    text = record[9:]
    if record[8:9] != b" " or int(record[:8], 16) != zlib.crc32(text):
        raise ValueError("its checksum differs")
    return parse(text)


def redact_clicks(path: Path, forgotten: Mapping[str, str], position_at: Callable[[int], str]) -> int:
    """Overwrite clicks of sessions, and damaged records before the last request, with spaces; then flush.

    Others may append to the file meanwhile. A damaged record may be half a click of such a session: an append that
    was refused, or an overwrite that a power loss cut short. No reader learns from it.

    Parameters
    ----------
    path : Path
        The segment.
    forgotten : mapping of str to str
        By session id: the position before which its clicks are removed.
    position_at : callable
        Returns the position of an offset in the segment.

    Returns
    -------
    int
        The number of records overwritten.

    Raises
    ------
    OSError
        If the file cannot be read or written.
    """
    last = max(forgotten.values(), default="")
    count = begin = 0
    with path.open("r+b") as file:
        for line in file.read().split(b"\n"):
            end = begin + len(line) + 1
            position = position_at(end)
            if position < last and line.strip(b" ") and _must_go(line, position, forgotten):
                file.seek(begin)
                file.write(b" " * len(line))
                count += 1
            begin = end
        file.flush()
        os.fdatasync(file.fileno())
    return count


def _must_go(line: bytes, position: str, forgotten: Mapping[str, str]) -> bool:
    """Return whether a record is damaged, or a click to be forgotten."""
    try:
        event = parse_record(line)
    except (ValueError, KeyError, TypeError):
        return True
    return isinstance(event, Click) and position < forgotten.get(event.session, "")
