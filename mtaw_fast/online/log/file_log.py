"""The event log as a folder of append-only segment files.

A record is one line, `<CRC-32 in 8 hex digits> <JSON>`; a segment `events-<number>.log` holds about 64 MB of them. Any
number of processes append. Each append is one write(2) to a file opened for appending and begins with a newline, so
that a record that another writer could not finish damages no other. A record counts if its line has an end, its
checksum is right and its event takes at most `MAX_RECORD_BYTES`. Any other record is damaged: it is logged, counted and
skipped.

A position is the place after a record, `<segment>-<offset>`, both of fixed width: positions sort in the log's order.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Event
from mtaw_fast.online.log.flusher import Flusher
from mtaw_fast.online.log.private_files import FILE_MODE, make_private
from mtaw_fast.online.log.segment import (
    FRAME_BYTES,
    MAX_RECORD_BYTES,
    parse_record,
    record_of,
    redact_clicks,
    remove_records,
)
from mtaw_fast.storage.files import read_json, write_json
from mtaw_fast.system import host
from mtaw_fast.system.fork_lock import ForkLock

SEGMENT_BYTES = 64 << 20
_ABOUT = "log.json"
_LOCK = ".append.lock"
_SEGMENT = re.compile(r"events-([0-9]{10,})\.log")
_MAY_COUNT = (
    "Some of these events may be learned all the same: send them again with their ids, so that each counts once"
)
_READ_BYTES = 1 << 20
_RECORD_BYTES = 100.0  # of a record, before any was read
_LOG = logging.getLogger("mtaw_fast.online")


class FileLog:
    """An `EventLog` in a folder that all processes of a host share.

    Parameters
    ----------
    folder : Path
        Created if it is missing.
    fsync : bool, default False
        Whether `append` returns after fsync; else after write(2), with an fsync every 20 ms.
    segment_bytes : int, default 64 MiB
        A segment of this size is full: the next one is created.

    Raises
    ------
    LearnError
        If the folder cannot be used.
    """

    def __init__(self, folder: Path, *, fsync: bool = False, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self._segment_bytes = folder, segment_bytes
        self.damaged = 0
        self._last_damage = (-1, 0)  # (segment, offset) of the last damaged record that was logged
        self._last_gap = -1  # the last missing segment that was logged
        self._empty: tuple[object, object] = (None, None)  # a place, and the log's end then: no event between them
        self._record_bytes = _RECORD_BYTES  # the mean of the records that were read last
        self._lock = ForkLock()
        self._closed = False
        self._process = os.getpid()
        try:
            make_private(folder)
            self._lock_file = self._open_lock_file()
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(host.close, self._lock_file)
                with self._exclusive():
                    self.identity = self._identity()
                    if not self._segments():
                        self._create_segment(0)
                # A writer that was killed may not have flushed the segment that was the newest then.
                for number in self._segments()[-2:-1]:
                    with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                        self._flush_segment(number)
                self._number = -1
                self._file = -1
                self._flusher: Flusher | None = None
                self._switch_segment(self._segments()[-1])
                on_failure.callback(host.close, self._file)
                if not fsync:
                    self._flusher = self._new_flusher(self._file)
                on_failure.pop_all()
        except OSError as error:
            raise LearnError(f"cannot learn in {folder}: {error.strerror or error}; give a writable folder") from None

    # Writing

    def append(self, events: Sequence[Event]) -> str:
        """Store events in their order, with none of others between; return the position after the last.

        Raises
        ------
        LearnError
            If not all of them could be written (a full disk), the last flush failed, or one is larger than a reader
            takes. None is acknowledged then. After a full disk or a failed fsync some may be in the log all the same,
            and readers learn these once: events that are sent again need the same ids.
        """
        data = b"\n" + b"".join(record_of(checked_line(event, f"the log in {self.folder}")) for event in events)
        with self._lock:
            if self._closed:
                raise LearnError(f"the log in {self.folder} is closed; open it again")
            try:
                self._reopen_in_child()
                if self._flusher is not None and self._flusher.failure:  # a write would succeed: the kernel buffers it
                    raise LearnError(
                        f"cannot flush the log in {self.folder}: {self._flusher.failure}; "
                        "check the disk, then send the events again"
                    )
                with self._shared():
                    written = host.write(self._file, data)
                    end = os.lseek(self._file, 0, os.SEEK_CUR)
                if written != len(data):
                    raise LearnError(
                        f"the log in {self.folder} is full: {written} of {len(data)} bytes were written; free "
                        f"some space. {_MAY_COUNT}"
                    )
                if self._flusher is None:
                    host.fdatasync(self._file)
                else:
                    self._flusher.written()
            except OSError as error:
                raise LearnError(f"cannot append to the log in {self.folder}: {error.strerror}. {_MAY_COUNT}") from None
            return _position(self._number, end)

    @contextlib.contextmanager
    def _shared(self) -> Iterator[None]:
        """Keep the newest segment the newest: no process creates the next one inside the `with`."""
        while True:
            host.lock(self._lock_file, fcntl.LOCK_SH)
            try:
                status = os.fstat(self._file)
                if not self._is_succeeded(status) and status.st_size < self._segment_bytes:
                    yield
                    return
            finally:
                host.lock(self._lock_file, fcntl.LOCK_UN)
            with self._exclusive():
                newest = self._segments()[-1]
                if host.status(self._path(newest)).st_size >= self._segment_bytes:
                    newest = self._create_segment(newest + 1)
            self._switch_segment(newest)

    def _is_succeeded(self, status: os.stat_result) -> bool:
        """Return whether there is a newer segment than the one that is open for appending.

        Raise LearnError if that one is not the one in the folder: nobody reads it. `expire` of another process may have
        deleted it, if there is a newer one.
        """
        path = self._path(self._number)
        try:
            if os.path.samestat(status, host.status(path)):
                return host.exists(self._path(self._number + 1))
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):  # of the folder
                if max(self._segments(), default=-1) > self._number:
                    return True
        raise LearnError(f"{path} was removed or replaced while it was in use; restore the log, then start again")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        host.lock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            host.lock(self._lock_file, fcntl.LOCK_UN)

    def _create_segment(self, number: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        host.close(host.open_file(self._path(number), flags, FILE_MODE))
        return number

    def _switch_segment(self, number: int) -> None:
        _sync_folder(self.folder)  # here: who created the segment may have been killed before its name was flushed
        before, self._file, self._number = (
            self._file,
            self._open_for_append(number),
            number,
        )  # valid at any moment another thread may fork
        if self._flusher is not None:
            self._flusher.follow(self._file)
        elif before >= 0:
            host.close(before)  # every acknowledged append was flushed already

    def _new_flusher(self, file: int) -> Flusher:
        flusher = Flusher(f"the log in {self.folder}")
        flusher.follow(file)
        return flusher

    def _open_for_append(self, number: int) -> int:
        return host.open_file(self._path(number), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _open_lock_file(self) -> int:
        return host.open_file(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def _reopen_in_child(self) -> None:
        """In a child of a fork, open every file again and start a flusher.

        The child would otherwise share its parent's file locks and file offset, and it has no thread that flushes.
        """
        if self._process == os.getpid():
            return
        number = self._segments()[-1]
        with contextlib.ExitStack() as on_failure:
            guard = self._open_lock_file()
            on_failure.callback(host.close, guard)
            file = self._open_for_append(number)
            on_failure.callback(host.close, file)
            flusher = None if self._flusher is None else self._new_flusher(file)
            on_failure.pop_all()
        host.close(self._lock_file)
        host.close(self._file)
        self._lock_file, self._file, self._number, self._process = guard, file, number, os.getpid()
        self._flusher = flusher

    # Reading

    def read(self, after: str, limit: int = 10_000) -> list[LogEntry]:
        """Return the next events after a position; see `EventLog.read`.

        Raises
        ------
        LearnError
            If `after` is not a position of this log, or the log cannot be read now.
        """
        number, offset = parsed_position(after) if after else (0, 0)
        with self._as_learn_error("read"):
            return self._read(number, offset, limit)

    def _read(self, number: int, offset: int, limit: int) -> list[LogEntry]:
        found: list[LogEntry] = []
        segments = self._segments()
        if not segments or number > segments[-1]:
            raise LearnError(
                f"the log in {self.folder} ends before position {_position(number, offset)}: segments were removed, or "
                f"an older copy was restored; restore the newest one, or move {self.folder / 'bundle'} away"
            )
        if number not in segments:
            number, offset = self._after_gap(number, offset, segments), 0
        here = (number, offset), [(one, host.status(self._path(one)).st_size) for one in segments[-1:]]
        if here == self._empty:
            return found  # otherwise each poll reads many MB of half a record or of damage again
        while len(found) < limit:
            sealed = number < segments[-1]  # before reading: a sealed segment does not grow
            try:
                offset, more = self._read_segment(number, offset, sealed, limit - len(found), found)
            except FileNotFoundError:
                segments = self._segments()
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
        if not found and limit > 0:
            self._empty = here
        return found

    def _after_gap(self, number: int, offset: int, segments: list[int]) -> int:
        """Return the first segment after a missing one. Log and count the gap, unless reading starts there."""
        following = min(one for one in segments if one > number)
        if (number, offset) != (0, 0) and number > self._last_gap:
            self._last_gap = number
            self.damaged += 1
            _LOG.warning(
                "%s is missing: its events after position %s are not learned; read on in segment %d",
                self._path(number), _position(number, offset), following,
            )  # fmt: skip
        return following

    def _read_segment(
        self, number: int, offset: int, sealed: bool, limit: int, found: list[LogEntry]
    ) -> tuple[int, bool]:
        """Add the events of one segment to `found`; return (where it stopped, whether to read on in it)."""
        data, may_come = self._lines(number, offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            if data and (sealed or not may_come):
                self._report_damage(number, offset, "a record without an end")
                return offset + len(data), True
            return offset, False
        begin, before = 0, len(found)
        while begin < end:
            stop = data.index(b"\n", begin)
            if stop > begin:
                event = self._record(number, offset + begin, data[begin:stop])
                if event is not None:
                    found.append(LogEntry(event, _position(number, offset + stop + 1)))
                    limit -= 1
            begin = stop + 1
            if limit == 0:
                break
        if len(found) > before:
            self._record_bytes = max(1.0, begin / (len(found) - before))
        return offset + begin, True

    def end(self) -> str:
        """Return the position of the log's end; see `EventLog.end`."""
        with self._as_learn_error("read"):
            newest = self._segments()[-1:]
            return _position(newest[0], host.status(self._path(newest[0])).st_size) if newest else START

    def flush(self, after: str) -> None:
        """Write the segments from a position on once more, and flush them; see `EventLog.flush`.

        If a flush failed before, in whatever process, the kernel may have dropped what it could not write, and says so
        only once: a flush alone would succeed without it.
        """
        first, offset = parsed_position(after) if after else (0, 0)
        with self._as_learn_error("flush"):
            for number in self._segments():
                if number >= first:
                    self._flush_segment(number, offset if number == first else 0)

    def _flush_segment(self, number: int, offset: int | None = None) -> None:
        """Flush a segment. offset: from where on it is written once more; None: not at all."""
        file = host.open_file(self._path(number), (os.O_RDONLY if offset is None else os.O_RDWR) | os.O_CLOEXEC)
        try:
            while offset is not None:
                with self._lock, self._exclusive():
                    data = os.pread(file, _READ_BYTES, offset)
                    if not data:
                        break
                    offset += host.pwrite(file, data, offset)
            host.fdatasync(file)
        finally:
            host.close(file)

    def lag(self, after: str) -> int:
        """Return about how many events follow a position: the bytes there by the mean size of the last records read."""
        number, offset = parsed_position(after) if after else (0, 0)
        ahead, size = -offset, self._segment_bytes
        with contextlib.suppress(OSError):  # the newest segment has no successor; `read` reports real errors
            while size >= self._segment_bytes:
                size = host.status(self._path(number)).st_size
                ahead, number = ahead + size, number + 1
        return max(0, round(ahead / self._record_bytes))

    def _lines(self, number: int, offset: int) -> tuple[bytes, bool]:
        """Return the bytes from `offset` on, up to at least one newline if there is one within the length of a record.

        The second value says whether the segment ends without a newline, so that one may still come.
        """
        with host.open_stream(self._path(number), "rb", 0) as file:
            size = os.fstat(file.fileno()).st_size
            if offset > size:
                raise LearnError(
                    f"{self._path(number)} ends at {size}, before position {offset}: the file was cut short"
                )
            file.seek(offset)
            data = file.read(_READ_BYTES)
            while b"\n" not in data:
                if len(data) >= MAX_RECORD_BYTES + FRAME_BYTES:
                    return data, False
                more = file.read(min(max(len(data), _READ_BYTES), MAX_RECORD_BYTES + FRAME_BYTES - len(data)))
                if not more:
                    return data, True
                data += more
        return data, False

    def _record(self, number: int, offset: int, line: bytes) -> Event | None:
        if not line.strip(b" "):
            return None  # redacted
        try:
            return parse_record(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._report_damage(number, offset, f"{type(error).__name__}: {error}")
            return None

    @contextlib.contextmanager
    def _as_learn_error(self, work: str) -> Iterator[None]:
        """Raise an OSError as a LearnError."""
        try:
            yield
        except OSError as error:
            raise LearnError(
                f"cannot {work} {error.filename or self.folder}: {error.strerror or error}; "
                "check the disk, the permissions and the limit of open files (ulimit -n)"
            ) from None

    def _report_damage(self, number: int, offset: int, why: str) -> None:
        if (number, offset) <= self._last_damage:
            return  # it was logged before, and is read again until an event follows it
        self._last_damage = number, offset
        self.damaged += 1
        _LOG.warning("%s, byte %d: skipped a damaged record (%s)", self._path(number), offset, why)

    # Removing

    def expire(self, before: str, most_bytes: int) -> int:
        """Delete the oldest whole segments before a position until the log takes `most_bytes`; return how many."""
        with self._as_learn_error("shorten"):
            segments = self._segments()
            sizes = {number: host.status(self._path(number)).st_size for number in segments}
            gone = 0
            for number in segments[:-1]:
                if number >= parsed_position(before)[0] or sum(sizes.values()) <= most_bytes:
                    break
                host.unlink(self._path(number))
                sizes.pop(number)
                gone += 1
            return gone

    def redact(self, forgotten: Mapping[str, str]) -> int:
        """Overwrite clicks, and possible halves of one, with spaces; see `EventLog.redact` and `redact_clicks`.

        The requests to forget stay: they apply to clicks that a copy of the log may still bring.
        """
        if not forgotten:
            return 0
        last, count = parsed_position(max(forgotten.values()))[0], 0
        with self._as_learn_error("redact"):
            for number in self._segments():
                if number <= last:
                    count += redact_clicks(self._path(number), forgotten, partial(_position, number))
        return count

    def remove(self, positions: Sequence[str]) -> None:
        """Overwrite records with spaces; see `EventLog.remove`."""
        with self._as_learn_error("shorten"):
            for number, found in groupby(sorted(map(parsed_position, positions)), key=itemgetter(0)):
                with contextlib.suppress(FileNotFoundError):  # a segment that is gone has nothing to remove
                    remove_records(self._path(number), [end for _, end in found])

    @property
    def n_bytes(self) -> int:
        """The size of all segments in bytes."""
        return sum(host.status(self._path(number)).st_size for number in self._segments())

    def close(self) -> None:
        """Flush and close: appends fail from now on, reads still work."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._flusher is None or self._process != os.getpid():  # or a child of a fork that appended nothing
                host.close(self._file)
            else:
                self._flusher.close()
            host.close(self._lock_file)

    def _identity(self) -> str:
        path = self.folder / _ABOUT
        if not host.exists(path):
            try:
                write_json(path, {"format": "mtaw_fast event log", "version": 1, "log": host.new_id()})
            except MtawError as error:  # a full disk
                raise LearnError(str(error)) from None
        about = read_json(path, LearnError)
        if not isinstance(about, dict) or about.get("version") != 1 or not isinstance(about.get("log"), str):
            raise LearnError(f"{path} does not describe an event log of version 1; give another folder")
        return about["log"]

    def _segments(self) -> list[int]:
        # Not glob: it treats a folder that cannot be read as an empty one.
        names = [path.name for path in host.listing(self.folder)]
        return sorted(int(found[1]) for name in names if (found := _SEGMENT.fullmatch(name)))

    def _path(self, number: int) -> Path:
        return self.folder / f"events-{number:010d}.log"


def parsed_position(position: str) -> tuple[int, int]:
    """Return (segment, offset) of a position. Raises LearnError if it is not a position."""
    number, dash, offset = position.partition("-")
    if not (dash and number.isdigit() and offset.isdigit()):
        raise LearnError(f"{position!r} is not a position of a log in a folder; write <segment>-<offset>")
    return int(number), int(offset)


def _position(number: int, offset: int) -> str:
    return f"{number:010d}-{offset:012d}"


def checked_line(event: Event, where: str) -> bytes:
    """Return the line of an event. Raises LearnError if it is larger than a reader takes; `where` names the log."""
    line = event.line()
    if len(line) > MAX_RECORD_BYTES:
        raise LearnError(
            f"an event of {len(line):,} bytes is too large for {where}, which takes {MAX_RECORD_BYTES:,}; "
            "name fewer items in each call"
        )
    return line


def _sync_folder(folder: Path) -> None:
    handle = host.open_file(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        host.fsync(handle)
    finally:
        host.close(handle)
