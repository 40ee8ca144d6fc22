"""The records of one segment file of the log: one line each, `<CRC-32 in 8 hex digits> <JSON>`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.events import Click, Event, parse
from mtaw_fast.system import host

FRAME_BYTES = 10  # of a record without its JSON: the checksum, a space and the newline
MAX_RECORD_BYTES = 64 << 20  # bytes of an event's JSON: a reader holds so many in memory to find a record's end
_READ_BYTES = 1 << 20
_RECORD_BYTES = 512  # of most records, at most
_CLICK = re.compile(rb'([0-9a-f]{8}) \{"session":"([^"\\]*)"')  # with a session id that JSON does not escape


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


def redact_clicks(path: Path, forgotten: Mapping[str, str], position_at: Callable[[int], str]) -> int:
    """Overwrite clicks of sessions, and damaged records before the last request, with spaces; then flush.

    In place: others may append to the file meanwhile, offsets are positions, and a copy would leave the clicks on the
    disk. The file is read as a stream, so that memory use does not depend on its size. A damaged record may be half a
    click of such a session: an append that was refused, or an overwrite that a power loss cut short. No reader learns
    from it.

    forgotten: by session id, the position before which its clicks are removed. position_at: returns the position of an
    offset in the segment; positions ascend. Returns the number of records overwritten. Raises OSError.
    """
    last = max(forgotten.values(), default="")
    keys = {session.encode("utf-8", "surrogatepass") for session in forgotten}
    count = begin = passed = 0
    with host.open_stream(path, "r+b", 0) as file, host.open_stream(path, "rb", _READ_BYTES) as reader:
        # Of a line that no reader takes, a part at a time: its parts are damaged too.
        while line := reader.readline(MAX_RECORD_BYTES + FRAME_BYTES):
            text = line[:-1] if line.endswith(b"\n") else line
            end = begin + len(text) + 1
            if begin >= passed + _READ_BYTES:
                if position_at(end) >= last:
                    break
                passed = begin
            if _may_go(text, keys) and (position := position_at(end)) < last and _must_go(text, position, forgotten):
                host.pwrite(file.fileno(), b" " * len(text), begin)
                count += 1
            begin += len(line)
        host.fdatasync(file.fileno())
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


def _may_go(line: bytes, keys: Set[bytes]) -> bool:
    """Return whether a line may have to be removed. For most lines it is False, without parsing their JSON."""
    session = _CLICK.match(line)
    if session is None:
        return bool(line.strip(b" "))
    return session[2] in keys or int(session[1], 16) != zlib.crc32(memoryview(line)[9:])


def _must_go(line: bytes, position: str, forgotten: Mapping[str, str]) -> bool:
    """Return whether a record is damaged, or a click to be forgotten."""
    try:
        event = parse_record(line)
    except (ValueError, KeyError, TypeError):
        return True
    return isinstance(event, Click) and position < forgotten.get(event.session, "")
