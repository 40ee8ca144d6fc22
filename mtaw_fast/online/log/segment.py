"""The records of one segment file of the log: one line each, `<CRC-32 in 8 hex digits> <JSON>`."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtaw_fast.errors import LearnError
from mtaw_fast.kernels.native.records import redact_lines
from mtaw_fast.online.log.events import Click, Event, parse
from mtaw_fast.system import host

FRAME_BYTES = 10  # of a record without its JSON: the checksum, a space and the newline
MAX_RECORD_BYTES = 64 << 20  # bytes of an event's JSON: a reader holds so many in memory to find a record's end
_READ_BYTES = 1 << 19
_RECORD_BYTES = 512  # of most records, at most


def record_of(line: bytes) -> bytes:
    """Return the record of an event's JSON, with its newline."""
    return b"%08x %b\n" % (zlib.crc32(line), line)


def checked_line(event: Event, where: str) -> bytes:
    """Return the line of an event. Raises LearnError if it is larger than a reader takes; `where` names the log."""
    line = event.line()
    if len(line) > MAX_RECORD_BYTES:
        raise LearnError(
            f"an event of {len(line):,} bytes is too large for {where}, which takes {MAX_RECORD_BYTES:,}; "
            "name fewer items in each call"
        )
    return line


def parse_record(record: bytes) -> Event | None:
    """Return the event of a record without its newline, or None if this release does not know its kind.

    Raises ValueError, KeyError or TypeError if the record is damaged.
    """
    text = record[9:]
    if record[8:9] != b" " or int(record[:8], 16) != zlib.crc32(text):
        raise ValueError("its checksum differs")
    return parse(text)


def redact_clicks(path: Path, forgotten: Mapping[str, int]) -> int:
    """Overwrite clicks of sessions, and damaged records before the last request, with spaces; then flush.

    In place: others may append to the file meanwhile, offsets are positions, and a copy would leave the clicks on the
    disk. The file is read in blocks, so that memory use does not depend on its size. A damaged record may be half a
    click of such a session: an append that was refused, or an overwrite that a power loss cut short. No reader learns
    from it.

    forgotten: by session id, the offset before which its clicks end that are removed. Returns the number of records
    overwritten. Raises OSError.
    """
    last = max(forgotten.values(), default=0)
    count = begin = 0
    rest = bytearray()
    with host.open_stream(path, "r+b", 0) as file:
        while begin < last:
            data = file.read(_READ_BYTES)
            rest += data
            end = rest.rfind(b"\n") + 1
            if not data or (not end and len(rest) >= MAX_RECORD_BYTES + FRAME_BYTES):
                end = len(rest)  # of a line that no reader takes, a part at a time: its parts are damaged too
            if not data and not end:
                break
            block, rest = rest[:end], rest[end:]
            count += _redact_block(file.fileno(), block, begin, forgotten, last)
            begin += end
        host.fdatasync(file.fileno())
    return count


def _redact_block(file: int, block: bytearray, begin: int, forgotten: Mapping[str, int], last: int) -> int:
    """Redact the lines of a block, which begins at an offset of the file; return how many were overwritten."""
    offsets = [(session.encode("utf-8", "surrogatepass"), offset - begin) for session, offset in forgotten.items()]
    count, changed, unclear = redact_lines(block, offsets, last - begin)
    for first, end in unclear:
        if _must_go(bytes(block[first:end]), begin + end + 1, forgotten):
            block[first:end] = b" " * (end - first)
            changed.append((first, end))
            count += 1
    for first, end in changed:
        host.pwrite(file, bytes(block[first:end]), begin + first)
    return count


def remove_records(path: Path, ends: Sequence[int]) -> None:
    """Overwrite the records that end at some offsets, after their newlines, with spaces; then flush. Raises OSError."""
    with host.open_stream(path, "r+b", 0) as file:
        for end in ends:
            begin, text = end - 1, b""
            while begin > 0 and b"\n" not in text:
                size = min(max(2 * len(text), _RECORD_BYTES), begin)
                begin -= size
                file.seek(begin)
                text = file.read(size) + text
            begin += text.rfind(b"\n") + 1
            host.pwrite(file.fileno(), b" " * (end - 1 - begin), begin)
        host.fdatasync(file.fileno())


def _must_go(line: bytes, end: int, forgotten: Mapping[str, int]) -> bool:
    """Return whether a record is damaged, or a click to be forgotten."""
    try:
        event = parse_record(line)
    except (ValueError, KeyError, TypeError):
        return True
    return isinstance(event, Click) and end < forgotten.get(event.session, 0)
