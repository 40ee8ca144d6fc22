"""How an event stands in a log in a folder: one line, `<CRC-32 in 8 hex digits> <JSON>`."""

from __future__ import annotations

import zlib

from mtaw_fast.online.log.events import Event, parse

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
