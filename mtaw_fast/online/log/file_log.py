"""The event log as a folder of append-only segment files.

A record is one line, `<CRC-32 in 8 hex digits> <JSON>`; a segment `events-<number>.log` holds about 64 MB of them. Any
number of processes append. Each append is one write(2) to a file opened for appending and begins with a newline, so
that a record that another writer could not finish damages no other. A record counts if its line has an end, its
checksum is right and its event takes at most `MAX_RECORD_BYTES`. Any other record is damaged: it is logged, counted and
skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Event
from mtaw_fast.online.log.flusher import Flusher
from mtaw_fast.online.log.private_files import FILE_MODE, make_private
from mtaw_fast.online.log.segment import checked_line, record_of, redact_clicks, remove_records
from mtaw_fast.online.log.segment_folder import SegmentFolder, parsed_position, position_of
from mtaw_fast.online.log.segment_reader import SegmentReader
from mtaw_fast.storage.files import flush_name, read_json, write_bytes, write_json
from mtaw_fast.system import host
from mtaw_fast.system.fork_lock import ForkLock

SEGMENT_BYTES = 64 << 20
_ABOUT = "log.json"
_LOCK = ".append.lock"
_MAY_COUNT = (
    "Some of these events may be learned all the same: send them again with their ids, so that each counts once"
)
_READ_BYTES = 1 << 20
_PAST_ALL = 1 << 62  # offset after every record of a segment


class FileLog(SegmentReader):
    """An `EventLog` in a folder that all processes of a host share; the folder is created if it is missing.

    fsync: whether `append` returns after fsync; else after write(2), with an fsync every 20 ms. segment_bytes: a
    segment of this size is full, and the next one is created. Raises LearnError if the folder cannot be used.
    """

    def __init__(self, folder: Path, *, fsync: bool = False, segment_bytes: int = SEGMENT_BYTES) -> None:
        if (folder / "manifest.json").exists():
            raise LearnError(f"{folder} is a bundle or data set, which a log would damage; give a folder of its own")
        super().__init__(SegmentFolder(folder), segment_bytes)
        self.folder = folder
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
                    if not self._segments.numbers():
                        self._create_segment(0)
                # A writer that was killed may not have flushed the segment that was the newest then.
                for number in self._segments.numbers()[-2:-1]:
                    with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                        self._flush_segment(number)
                self._number = -1
                self._file = -1
                self._flusher: Flusher | None = None
                self._switch_segment(self._segments.numbers()[-1])
                on_failure.callback(host.close, self._file)
                if not fsync:
                    self._flusher = Flusher(f"the log in {folder}", self._file)
                on_failure.pop_all()
        except OSError as error:
            raise LearnError(f"cannot learn in {folder}: {error.strerror or error}; give a writable folder") from None

    # Writing

    def append(self, events: Sequence[Event]) -> str:
        """Store events in their order, with none of others between; return the position after the last.

        Raises LearnError if not all of them could be written (a full disk), the last flush failed, or one is larger
        than a reader takes. None is acknowledged then. After a full disk or a failed fsync some may be in the log all
        the same, and readers learn these once: events that are sent again need the same ids.
        """
        data = b"\n" + self._records(events)
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
            return position_of(self._number, end)

    def add_segment(self, events: Sequence[Event]) -> None:
        """Store events in a segment of their own: all of them or none, also if the process is killed meanwhile.

        Raises LearnError if they could not be written.
        """
        with self._segments.as_learn_error("add a segment to"), self._lock:
            self._reopen_in_child()
            with self._exclusive():
                path = self._segments.path(self._segments.numbers()[-1] + 1)
                try:
                    write_bytes(path, self._records(events))
                except MtawError as error:
                    raise LearnError(str(error)) from None
                host.set_mode(path, FILE_MODE)

    def _records(self, events: Sequence[Event]) -> bytes:
        return b"".join([record_of(checked_line(event, f"the log in {self.folder}")) for event in events])

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
                newest = self._segments.numbers()[-1]
                if self._segments.size(newest) >= self._segment_bytes:
                    newest += 1
                    self._create_segment(newest)
            self._switch_segment(newest)

    def _is_succeeded(self, status: os.stat_result) -> bool:
        """Return whether there is a newer segment than the one that is open for appending. Raise LearnError if that one
        is not in the folder: nobody reads it. `expire` may have deleted it, if there is a newer one."""
        try:
            if os.path.samestat(status, host.status(self._path)):
                return host.exists(self._segments.path(self._number + 1))
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):  # of the folder
                if max(self._segments.numbers(), default=-1) > self._number:
                    return True
        raise LearnError(f"{self._path} was removed or replaced while it was in use; restore the log, then start again")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        host.lock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            host.lock(self._lock_file, fcntl.LOCK_UN)

    def _create_segment(self, number: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        host.close(host.open_file(self._segments.path(number), flags, FILE_MODE))

    def _switch_segment(self, number: int) -> None:
        path = self._segments.path(number)
        flush_name(path)  # here: who created the segment may have been killed before its name was flushed
        # At once: another thread may fork at any moment.
        old_file, self._file, self._number, self._path = self._file, self._open_for_append(path), number, path
        if self._flusher is not None:
            self._flusher.follow(self._file)
        elif old_file >= 0:
            host.close(old_file)  # every acknowledged append was flushed already

    @staticmethod
    def _open_for_append(path: Path) -> int:
        return host.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def _open_lock_file(self) -> int:
        return host.open_file(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def _reopen_in_child(self) -> None:
        """In a child of a fork, start a flusher, and open every file again: locks and offsets would be its parent's."""
        if self._process == os.getpid():
            return
        number = self._segments.numbers()[-1]
        path = self._segments.path(number)
        with contextlib.ExitStack() as on_failure:
            guard = self._open_lock_file()
            on_failure.callback(host.close, guard)
            file = self._open_for_append(path)
            on_failure.callback(host.close, file)
            flusher = None if self._flusher is None else Flusher(f"the log in {self.folder}", file)
            on_failure.pop_all()
        host.close(self._lock_file)
        host.close(self._file)
        self._lock_file, self._file, self._number, self._path = guard, file, number, path
        self._flusher, self._process = flusher, os.getpid()

    # Reading, next to what `SegmentReader` does

    def end(self) -> str:
        """Return the position of the log's end; see `EventLog.end`."""
        with self._segments.as_learn_error("read"):
            newest = self._segments.numbers()[-1:]
            return position_of(newest[0], self._segments.size(newest[0])) if newest else START

    def flush(self, after: str) -> None:
        """Write the segments from a position on once more, and flush them; see `EventLog.flush`.

        If a flush failed before, in whatever process, the kernel may have dropped what it could not write, and says so
        only once: a flush alone would succeed without it.
        """
        first, offset = parsed_position(after)
        with self._segments.as_learn_error("flush"):
            for number in self._segments.numbers():
                if number >= first:
                    self._flush_segment(number, offset if number == first else 0)

    def _flush_segment(self, number: int, offset: int | None = None) -> None:
        """Flush a segment. offset: from here on it is written again; None: nothing is written again."""
        flags = os.O_RDONLY if offset is None else os.O_RDWR
        file = host.open_file(self._segments.path(number), flags | os.O_CLOEXEC)
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

    # Removing

    def expire(self, before: str, max_bytes: int) -> int:
        """Delete the oldest whole segments before a position until the log takes `max_bytes`; return how many."""
        with self._segments.as_learn_error("shorten"):
            segments = self._segments.numbers()
            sizes = {number: self._segments.size(number) for number in segments}
            count = 0
            for number in segments[:-1]:
                if number >= parsed_position(before)[0] or sum(sizes.values()) <= max_bytes:
                    break
                host.unlink(self._segments.path(number))
                sizes.pop(number)
                count += 1
            return count

    def redact(self, forgotten: Mapping[str, str]) -> int:
        """Overwrite clicks, and possible halves of one, with spaces; see `EventLog.redact` and `redact_clicks`.

        The requests to forget stay: they apply to clicks that a copy of the log may still bring.
        """
        if not forgotten:
            return 0
        positions = {session: parsed_position(position) for session, position in forgotten.items()}
        last, count = max(positions.values())[0], 0
        with self._segments.as_learn_error("redact"):
            for number in self._segments.numbers():
                if number <= last:
                    offsets = {
                        session: offset if segment == number else _PAST_ALL
                        for session, (segment, offset) in positions.items()
                        if segment >= number
                    }
                    count += redact_clicks(self._segments.path(number), offsets)
        return count

    def remove(self, positions: Sequence[str]) -> None:
        """Overwrite records with spaces; see `EventLog.remove`."""
        with self._segments.as_learn_error("shorten"):
            for number, group in groupby(sorted(map(parsed_position, positions)), key=itemgetter(0)):
                with contextlib.suppress(FileNotFoundError):  # a segment that is gone has nothing to remove
                    remove_records(self._segments.path(number), [end for _, end in group])

    @property
    def n_bytes(self) -> int:
        """The size of all segments in bytes."""
        return sum(map(self._segments.size, self._segments.numbers()))

    # Everyone who reads the folder begins with the bundle in it

    def note_reader(self, reader: str, position: str) -> None: ...

    def read_by_all(self, reader: str, position: str) -> str:  # noqa: ARG002
        return position

    def note_cut(self, position: str) -> None: ...

    def cut(self) -> str:
        return START

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
                write_json(path, {"format": "mtaw_fast event log", "version": 1, "log": host.new_id()}, FILE_MODE)
            except MtawError as error:  # a full disk
                raise LearnError(str(error)) from None
        about = read_json(path, LearnError)
        if not isinstance(about, dict) or about.get("version") != 1 or not isinstance(about.get("log"), str):
            raise LearnError(f"{path} does not describe an event log of version 1; give another folder")
        return about["log"]
