"""Changes of the item table that are kept without learning: a folder with a log of them, which processes share."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtaw_fast.errors import DataError, LearnError
from mtaw_fast.items import ItemTable, TableChange
from mtaw_fast.items.live import LiveItems
from mtaw_fast.items.placements import Placements
from mtaw_fast.online.compaction.serving_lock import is_learning_folder
from mtaw_fast.online.follower import LogFollower
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Event, HideItems, SetPlacement, ShowItems, now_ms
from mtaw_fast.online.log.file_log import SEGMENT_BYTES, FileLog
from mtaw_fast.online.log.private_files import FILE_MODE
from mtaw_fast.online.log.table_parts import TableParts, table_parts
from mtaw_fast.online.state.item_changes import ItemChanges, placements_after_event
from mtaw_fast.system import host
from mtaw_fast.system.fork_lock import ForkLock

_LOCK = ".items.lock"
_READ_EVENTS = 1_000
_LOG = logging.getLogger("mtaw_fast.online")


class ItemState:
    """A folder, created if missing, that keeps changes of the item table for every process that serves with it.

    table: of the bundle that is served. publish: receives the live table whenever it changed, first before this
    returns; from a thread of this object. Raises LearnError if the folder cannot be used.
    """

    def __init__(self, folder: Path, table: ItemTable | None, publish: Callable[[LiveItems], None]) -> None:
        if is_learning_folder(folder):
            raise LearnError(f"{folder} is the folder of services that learn; name it with learn (--learn), not state")
        self.folder, self._table = folder, table
        self._log = FileLog(folder, fsync=True)
        self._writing = ForkLock()
        self._shortened = 0  # bytes after the last shortening
        self.follower = LogFollower(self._log, ItemChanges(table), publish)
        try:
            self.follower.start()
        except BaseException:
            self._log.close()
            raise

    @property
    def position(self) -> str:
        """The log's position up to which rankings know every change."""
        return self.follower.position

    @property
    def table_parts(self) -> TableParts:
        """The changes of the item table that are not complete, or did not fit."""
        return self.follower.state.table_parts

    def append(self, events: Sequence[Event]) -> str:
        """Keep changes, and return when they are published here; returns the log's position after them."""
        with self._lock(fcntl.LOCK_SH):
            position = self._log.append(events)
            # Before another process shortens the log: it removes changes that do not fit, and segments.
            self.catch_up()
            n_bytes = self._log.n_bytes
        if n_bytes > 3 * SEGMENT_BYTES + 2 * self._shortened:
            try:
                self._shorten()
            except LearnError as error:  # the change is kept, and the next one tries again
                _LOG.warning("%s is not shortened: %s", self.folder, error)
        return position

    def catch_up(self) -> None:
        """Publish everything that the folder holds now."""
        self.follower.catch_up()

    def stop(self) -> None:
        """End the thread and close the folder."""
        self.follower.stop()
        self._log.close()

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        """Lock the folder against changes of other processes (LOCK_EX), or only against a shortening (LOCK_SH)."""
        try:
            with self._writing:
                file = host.open_file(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
                try:
                    host.lock(file, kind)
                    yield
                finally:
                    host.close(file)
        except OSError as error:
            raise LearnError(f"cannot keep items in {self.folder}: {error.strerror or error}") from None

    def _shorten(self) -> None:
        """Write the result of all changes after them, and delete the segments before it.

        Changes that do not fit leave the log too, since they may fit once the changes before them are gone.
        """
        with self._lock(fcntl.LOCK_EX):
            end = self._log.end()
            parts, position = TableParts(), START
            made, columns = (0, None) if self._table is None else (self._table.made, self._table)
            changes, changed, refused = list[TableChange](), 0, list[str]()
            # The last state of each: the bundle, or a reader that has not reached the end, may have another.
            is_hidden, changed_placements = dict[int | str, bool](), set[str]()
            placements: Placements = {} if self._table is None else self._table.placements
            while entries := self._log.read(position, _READ_EVENTS):
                for event, position in entries:
                    data = parts.complete(event)
                    if data is not None and event.time > made:
                        try:
                            change = TableChange.unpacked(data)
                            columns = change.schema_after(columns)
                        except DataError:
                            refused.append(position)
                            continue
                        changes, changed = _folded(changes, change), max(changed, event.time)
                    elif isinstance(event, (HideItems, ShowItems)):
                        is_hidden.update(dict.fromkeys(event.items, isinstance(event, HideItems)))
                    elif isinstance(event, SetPlacement):
                        placements = placements_after_event(placements, event)
                        changed_placements.add(event.name)
            now = now_ms()
            hidden = tuple(item for item, hides in is_hidden.items() if hides)
            shown = tuple(item for item, hides in is_hidden.items() if not hides)
            events: list[Event] = [HideItems(hidden, now)] if hidden else []
            events += [ShowItems(shown, now)] if shown else []
            events += [SetPlacement(name, None, now, placements.get(name)) for name in changed_placements]
            for change in changes:
                events += table_parts(change, changed)  # not now: a newer table of the bundle stays newer
            self._log.remove(refused)
            if events:
                self._log.add_segment(events)  # without the last of them, the others would undo changes
            self._log.expire(end, 0)
            self._shortened = self._log.n_bytes


def _folded(changes: list[TableChange], later: TableChange) -> list[TableChange]:
    """Return few changes that do what `changes` and then `later` do; before a replacement, only columns count."""
    if later.mode == "replace":
        kept = changes[:-1] if changes and changes[-1].changes_columns_as(later) else changes
        return [*(change.without_rows() for change in kept), later]
    if changes and changes[-1].mode == "patch":
        return [*changes[:-1], changes[-1].then(later)]
    return [*changes, later]
