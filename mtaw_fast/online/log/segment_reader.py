"""Reading events from the segments of a log; damage and missing segments are logged, counted and skipped."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Event
from mtaw_fast.online.log.segment import FRAME_BYTES, MAX_RECORD_BYTES, parse_record
from mtaw_fast.online.log.segment_folder import SegmentFolder, parsed_position, position_of
from mtaw_fast.system import host

_READ_BYTES = 1 << 20
_RECORD_BYTES = 100.0  # of a record, before any was read
_NOWHERE = (-1, 0)  # (segment, offset) before every position
_LOG = logging.getLogger("mtaw_fast.online")


class SegmentReader:
    """Reads the segments in a folder, while others write them.

    segment_bytes: a segment of this size is full. damaged: damaged records, and missing segments, that were skipped.
    """

    def __init__(self, segments: SegmentFolder, segment_bytes: int) -> None:
        self._segments, self._segment_bytes = segments, segment_bytes
        self.damaged = 0
        self._last_damage = _NOWHERE  # (segment, offset) of the last damaged record that was logged
        self._last_gap = -1  # the last missing segment that was logged
        self._empty = _NOWHERE, _NOWHERE  # a position, and the log's end then: no event between them
        self._record_bytes = _RECORD_BYTES  # the mean of the records that were read last

    def read(self, after: str, limit: int = 10_000) -> list[LogEntry]:
        """Return the next events after a position; see `EventLog.read`."""
        number, offset = parsed_position(after)
        with self._segments.as_learn_error("read"):
            return self._read(number, offset, limit)

    def lag(self, after: str) -> int:
        """Return about how many events follow a position: the bytes there by the mean size of the last records read.

        Bytes in which `read` found no event do not count: no later read would take them away from a full backlog.
        """
        begin, (empty_from, empty_until) = parsed_position(after), self._empty
        number, offset = empty_until if begin == empty_from else begin
        ahead, size = -offset, self._segment_bytes
        with suppress(OSError):  # the newest segment has no successor; `read` reports real errors
            while size >= self._segment_bytes:
                size = self._segments.size(number)
                ahead, number = ahead + size, number + 1
        return max(0, round(ahead / self._record_bytes))

    def _read(self, number: int, offset: int, limit: int) -> list[LogEntry]:
        entries: list[LogEntry] = []
        segments = self._segments.numbers()
        if not segments or number > segments[-1]:
            folder = self._segments.folder
            raise LearnError(
                f"the log in {folder} ends before position {position_of(number, offset)}: segments were removed, or an "
                f"older copy was restored; restore the newest one, or move {folder / 'bundle'} away"
            )
        if number not in segments:
            number, offset = self._after_gap(number, offset, segments), 0
        state = (number, offset), (segments[-1], self._segments.size(segments[-1]))
        if state == self._empty:
            return entries  # otherwise each poll reads many MB of half a record or of damage again
        while len(entries) < limit:
            sealed = number < segments[-1]  # before reading: a sealed segment does not grow
            try:
                offset, more = self._read_segment(number, offset, sealed, limit - len(entries), entries)
            except FileNotFoundError:
                segments = self._segments.numbers()
                if not segments or number >= segments[0]:
                    raise
                number, offset = self._after_gap(number, offset, segments), 0  # it was deleted since it was listed
                continue
            if more:
                continue
            if not sealed:
                break
            number, offset = number + 1, 0
            if number not in segments:
                number = self._after_gap(number, 0, segments)
        if not entries and limit > 0:
            self._empty = state
        return entries

    def _after_gap(self, number: int, offset: int, segments: list[int]) -> int:
        """Return the first segment after a missing one. Log and count the gap, unless reading starts there."""
        following = min(segment for segment in segments if segment > number)
        if (number, offset) != (0, 0) and number > self._last_gap:
            self._last_gap = number
            self.damaged += 1
            _LOG.warning(
                "%s is missing: its events after position %s are not learned; read on in segment %d",
                self._segments.path(number), position_of(number, offset), following,
            )  # fmt: skip
        return following

    def _read_segment(
        self, number: int, offset: int, sealed: bool, limit: int, entries: list[LogEntry]
    ) -> tuple[int, bool]:
        """Add the events of one segment to `entries`; return (where it stopped, whether to read on in it)."""
        data, may_come = self._lines(number, offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            if data and (sealed or not may_come):
                self._report_damage(number, offset, "a record without an end")
                return offset + len(data), True
            return offset, False
        begin, n_before = 0, len(entries)
        while begin < end:
            stop = data.index(b"\n", begin)
            if stop > begin:
                event = self._record(number, offset + begin, data[begin:stop])
                if event is not None:
                    entries.append(LogEntry(event, position_of(number, offset + stop + 1)))
                    limit -= 1
            begin = stop + 1
            if limit == 0:
                break
        if len(entries) > n_before:
            self._record_bytes = max(1.0, begin / (len(entries) - n_before))
        return offset + begin, True

    def _lines(self, number: int, offset: int) -> tuple[bytes, bool]:
        """Return the bytes from `offset` on, up to at least one newline if there is one within the length of a record.

        The second value says whether the segment ends without a newline, so that one may still come.
        """
        with host.open_stream(self._segments.path(number), "rb", 0) as file:
            size = os.fstat(file.fileno()).st_size
            if offset > size:
                raise LearnError(
                    f"{self._segments.path(number)} ends at {size}, before position {offset}: the file was cut short"
                )
            file.seek(offset)
            data = file.read(_READ_BYTES)
            while b"\n" not in data:
                if len(data) >= MAX_RECORD_BYTES + FRAME_BYTES:
                    return data, False
                chunk = file.read(min(max(len(data), _READ_BYTES), MAX_RECORD_BYTES + FRAME_BYTES - len(data)))
                if not chunk:
                    return data, True
                data += chunk
        return data, False

    def _record(self, number: int, offset: int, line: bytes) -> Event | None:
        if not line.strip(b" "):
            return None  # redacted
        try:
            return parse_record(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._report_damage(number, offset, f"{type(error).__name__}: {error}")
            return None

    def _report_damage(self, number: int, offset: int, why: str) -> None:
        if (number, offset) <= self._last_damage:
            return  # it was logged before, and is read again until an event follows it
        self._last_damage = number, offset
        self.damaged += 1
        _LOG.warning("%s, byte %d: skipped a damaged record (%s)", self._segments.path(number), offset, why)
