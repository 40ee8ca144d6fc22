"""The append-only log of a folder: what is acknowledged stands in it, and every reader sees the same order.

A record is one line, `<CRC-32 in 8 hex digits> <JSON>`; a segment `events-<number>.log` is some 64 MB of them. Any
number of processes append: each append is one write(2) to a file opened for appending, which begins with a line's end,
so that what another writer could not finish spoils no record but its own. A record counts when its line has an end,
its sum is right and its event takes at most `MOST_RECORD` bytes; what does not is damaged: it is named, counted and
passed over.

A position names the place after a record, `<segment>-<offset>`, both of fixed width: positions sort as they come.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.online.log.event_log import Stamped
from mtaw_fast.online.log.events import Event
from mtaw_fast.online.log.flusher import Flusher
from mtaw_fast.online.log.segment import FRAME_BYTES, event_of, framed, redact_clicks
from mtaw_fast.storage.files import read_json, write_json
from mtaw_fast.system.fork_lock import ForkLock

SEGMENT_BYTES = 64 << 20
MOST_RECORD = 64 << 20  # bytes of an event's JSON: what a reader takes into memory to find a record's end
_ABOUT = "log.json"
_LOCK = ".append.lock"
_SEGMENT = re.compile(r"events-([0-9]{10,})\.log")
_READ_BYTES = 1 << 20
_LOG = logging.getLogger("mtaw_fast.online")


class FileLog:
    """`EventLog` in a folder, shared by all processes of a machine.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    fsync : bool, default False
        Whether `append` returns after fsync; else after write(2), with an fsync every 20 ms.
    segment_bytes : int, default 64 MiB
        From this size on the next segment is begun.

    Raises
    ------
    LearnError
        Where the folder cannot be used.
    """

    def __init__(self, folder: Path, *, fsync: bool = False, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder, self._segment_bytes = folder, segment_bytes
        self.damaged = 0
        self._furthest = (-1, 0)  # (segment, offset) of the furthest damaged record that was told
        self._empty: tuple[object, object] = (None, None)  # a place, and the log's end of then: no event in between
        self._lock = ForkLock()
        self._closed = False
        self._process = os.getpid()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._guard = self._opened_guard()
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(os.close, self._guard)
                with self._exclusive():
                    self.identity = self._identity()
                    if not self._segments():
                        self._begin(0)
                self._number = -1
                self._file = -1
                self._flusher: Flusher | None = None
                self._open(self._segments()[-1])
                on_failure.callback(os.close, self._file)
                if not fsync:
                    self._flusher = self._new_flusher(self._file)
                on_failure.pop_all()
        except OSError as error:
            raise LearnError(f"cannot learn in {folder}: {error.strerror or error}; give a writable folder") from None

    # Writing

    def append(self, events: Sequence[Event]) -> str:
        """Keep `events`, in their order and together; returns the position after the last.

        Raises
        ------
        LearnError
            Where not all of them could be written (a full disk), the last flush failed, or one is larger than a
            reader takes: none is acknowledged then.
        """
        data = b"\n" + b"".join(framed(checked_line(event, f"the log in {self.folder}")) for event in events)
        with self._lock:
            if self._closed:
                raise LearnError(f"the log in {self.folder} is closed; open it again")
            try:
                self._take_over()
                if self._flusher is not None and self._flusher.failure:  # a write would go well: the system buffers it
                    raise LearnError(
                        f"cannot flush the log in {self.folder}: {self._flusher.failure}; "
                        "see to its disk, and send the events again"
                    )
                with self._shared():
                    written = os.write(self._file, data)
                    end = os.lseek(self._file, 0, os.SEEK_CUR)
                if written != len(data):
                    raise LearnError(
                        f"the log in {self.folder} is full: {written} of {len(data)} bytes went in; free some space"
                    )
                if self._flusher is None:
                    os.fdatasync(self._file)
                else:
                    self._flusher.written()
            except OSError as error:
                raise LearnError(f"cannot append to the log in {self.folder}: {error.strerror}") from None
            return _position(self._number, end)

    @contextlib.contextmanager
    def _shared(self) -> Iterator[None]:
        """Hold the newest segment open for appending: while anybody does, the next one is not begun."""
        while True:
            fcntl.flock(self._guard, fcntl.LOCK_SH)
            try:
                if not self._path(self._number + 1).exists() and os.fstat(self._file).st_size < self._segment_bytes:
                    yield
                    return
            finally:
                fcntl.flock(self._guard, fcntl.LOCK_UN)
            with self._exclusive():
                newest = self._segments()[-1]
                if self._path(newest).stat().st_size >= self._segment_bytes:
                    newest = self._begin(newest + 1)
            self._open(newest)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        fcntl.flock(self._guard, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._guard, fcntl.LOCK_UN)

    def _begin(self, number: int) -> int:
        os.close(os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        _sync_folder(self.folder)
        return number

    def _open(self, number: int) -> None:
        before, self._file, self._number = self._file, self._opened(number), number  # open at any moment that forks
        if self._flusher is not None:
            self._flusher.follow(self._file)
        elif before >= 0:
            os.close(before)  # what was acknowledged of it was flushed before

    def _new_flusher(self, file: int) -> Flusher:
        flusher = Flusher(f"the log in {self.folder}")
        flusher.follow(file)
        return flusher

    def _opened(self, number: int) -> int:
        return os.open(self._path(number), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _opened_guard(self) -> int:
        return os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _take_over(self) -> None:
        """In a child of a fork: open everything anew.

        It would share its parent's locks on the folder and place in the file, and has no thread that flushes.
        """
        if self._process == os.getpid():
            return
        number = self._segments()[-1]
        with contextlib.ExitStack() as on_failure:
            guard = self._opened_guard()
            on_failure.callback(os.close, guard)
            file = self._opened(number)
            on_failure.callback(os.close, file)
            flusher = None if self._flusher is None else self._new_flusher(file)
            on_failure.pop_all()
        os.close(self._guard)
        os.close(self._file)
        self._guard, self._file, self._number, self._process = guard, file, number, os.getpid()
        self._flusher = flusher

    # Reading

    def read(self, after: str, limit: int = 10_000) -> list[Stamped]:
        """The next events after `after`, at most `limit`; see `EventLog.read`.

        Raises
        ------
        LearnError
            Where `after` is no position of this log, or the log cannot be read now.
        """
        number, offset = parsed_position(after) if after else (0, 0)
        with self._told("read"):
            return self._read(number, offset, limit)

    def _read(self, number: int, offset: int, limit: int) -> list[Stamped]:
        found: list[Stamped] = []
        segments = self._segments()
        if segments and number < segments[0]:
            number, offset = segments[0], 0  # what is gone has expired
        looked = (number, offset), [(one, self._path(one).stat().st_size) for one in segments[-1:]]
        if looked == self._empty:
            return found  # else many MB of half a record, or of damage, are read again at every look
        while number in segments and len(found) < limit:
            sealed = number + 1 in segments  # before reading: what is sealed grows no more
            try:
                offset, more = self._read_segment(number, offset, sealed, limit - len(found), found)
            except FileNotFoundError:
                segments = self._segments()
                if not segments or number >= segments[0]:
                    raise
                number, offset = segments[0], 0  # it expired since it was listed
                continue
            if more:
                continue
            if not sealed:
                break
            number, offset = number + 1, 0
        if not found and limit > 0:
            self._empty = looked
        return found

    def _read_segment(
        self, number: int, offset: int, sealed: bool, limit: int, found: list[Stamped]
    ) -> tuple[int, bool]:
        """Add the events of one segment; returns (where it stopped, whether there may be more to read in it)."""
        data, may_come = self._lines(number, offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            if data and (sealed or not may_come):
                self._damage(number, offset, "a record without an end")
                return offset + len(data), True
            return offset, False
        begin = 0
        while begin < end:
            stop = data.index(b"\n", begin)
            if stop > begin:
                event = self._record(number, offset + begin, data[begin:stop])
                if event is not None:
                    found.append(Stamped(event, _position(number, offset + stop + 1)))
                    limit -= 1
            begin = stop + 1
            if limit == 0:
                break
        return offset + begin, True

    def _lines(self, number: int, offset: int) -> tuple[bytes, bool]:
        """Bytes from `offset` on, with a line's end in them if there is one within the length of a record.

        The second value: whether there is none up to the segment's end, so that one may still come.
        """
        with self._path(number).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if offset > size:
                raise LearnError(f"{self._path(number)} ends at {size}, before position {offset}: it was cut short")
            file.seek(offset)
            data = file.read(_READ_BYTES)
            while b"\n" not in data:
                if len(data) >= MOST_RECORD + FRAME_BYTES:
                    return data, False
                more = file.read(min(max(len(data), _READ_BYTES), MOST_RECORD + FRAME_BYTES - len(data)))
                if not more:
                    return data, True
                data += more
        return data, False

    def _record(self, number: int, offset: int, line: bytes) -> Event | None:
        if not line.strip(b" "):
            return None  # redacted
        try:
            return event_of(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._damage(number, offset, f"{type(error).__name__}: {error}")
            return None

    @contextlib.contextmanager
    def _told(self, work: str) -> Iterator[None]:
        """Errors of the system as the library's own."""
        try:
            yield
        except OSError as error:
            raise LearnError(
                f"cannot {work} {error.filename or self.folder}: {error.strerror or error}; "
                "see to its disk, its rights and the limit of open files (ulimit -n)"
            ) from None

    def _damage(self, number: int, offset: int, why: str) -> None:
        if (number, offset) <= self._furthest:
            return  # it is read again until an event stands behind it
        self._furthest = number, offset
        self.damaged += 1
        _LOG.warning("%s, byte %d: a damaged record is passed over (%s)", self._path(number), offset, why)

    # Keeping and leaving out

    def expire(self, before: str, most_bytes: int) -> int:
        """Delete the oldest whole segments before a position, until the log takes `most_bytes`; returns how many."""
        with self._told("shorten"):
            segments = self._segments()
            sizes = {number: self._path(number).stat().st_size for number in segments}
            gone = 0
            for number in segments[:-1]:
                if number >= parsed_position(before)[0] or sum(sizes.values()) <= most_bytes:
                    break
                self._path(number).unlink()
                sizes.pop(number)
                gone += 1
            return gone

    def redact(self, forgotten: Mapping[str, str]) -> int:
        """Overwrite clicks, and what may be half of one, with blanks; see `EventLog.redact` and `redact_clicks`.

        The records that ask to forget stay: they hold back what a copy of the log may still bring.
        """
        if not forgotten:
            return 0
        last, count = parsed_position(max(forgotten.values()))[0], 0
        with self._told("redact"):
            for number in self._segments():
                if number <= last:
                    count += redact_clicks(self._path(number), forgotten, partial(_position, number))
        return count

    @property
    def n_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(self._path(number).stat().st_size for number in self._segments())

    def close(self) -> None:
        """Flush and close; appending fails from here on, reading goes on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._flusher is None or self._process != os.getpid():  # a child of a fork that appended nothing
                os.close(self._file)
            else:
                self._flusher.close()
            os.close(self._guard)

    def _identity(self) -> str:
        path = self.folder / _ABOUT
        if not path.exists():
            try:
                write_json(path, {"format": "mtaw_fast event log", "version": 1, "log": uuid.uuid4().hex})
            except MtawError as error:  # a full disk
                raise LearnError(str(error)) from None
        about = read_json(path, LearnError)
        if not isinstance(about, dict) or about.get("version") != 1 or not isinstance(about.get("log"), str):
            raise LearnError(f"{path} is not of an event log of version 1; give another folder")
        return about["log"]

    def _segments(self) -> list[int]:
        # Not by glob, which takes a folder that cannot be read for an empty one.
        names = [path.name for path in self.folder.iterdir()]
        return sorted(int(found[1]) for name in names if (found := _SEGMENT.fullmatch(name)))

    def _path(self, number: int) -> Path:
        return self.folder / f"events-{number:010d}.log"


def parsed_position(position: str) -> tuple[int, int]:
    """(segment, offset) of a position. Raises LearnError where it is none."""
    number, dash, offset = position.partition("-")
    if not (dash and number.isdigit() and offset.isdigit()):
        raise LearnError(f"{position!r} is no position of a log in a folder; it reads <segment>-<offset>")
    return int(number), int(offset)


def _position(number: int, offset: int) -> str:
    return f"{number:010d}-{offset:012d}"


def checked_line(event: Event, where: str) -> bytes:
    """The line of an event. Raises LearnError, which names the log `where`, if it is larger than a reader takes."""
    line = event.line()
    if len(line) > MOST_RECORD:
        raise LearnError(
            f"an event of {len(line):,} bytes is too large for {where}, which takes {MOST_RECORD:,}; "
            "name fewer items in each call"
        )
    return line


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
