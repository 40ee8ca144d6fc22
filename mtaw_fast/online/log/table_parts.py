"""Changes of the item table in the log: cut into parts, and collected again."""

from __future__ import annotations

from collections.abc import Iterable

from mtaw_fast.items import TableChange
from mtaw_fast.online.log.events import Event, TablePart
from mtaw_fast.system import host

_PART_BYTES = 16 << 20  # of a change in one record
_MAX_UNFINISHED = 16
_MAX_REFUSED = 256


def table_parts(change: TableChange, time: int) -> list[TablePart]:
    """Return the events of a change of the item table."""
    data = change.packed()
    pieces = [data[begin : begin + _PART_BYTES] for begin in range(0, len(data), _PART_BYTES)]
    name = host.new_id()
    return [TablePart(name, number, len(pieces), piece, time) for number, piece in enumerate(pieces)]


class TableParts:
    """Collects the parts of changes of the item table until they are complete.

    refused: the last changes that did not fit the item table when their turn came, by `TablePart.table`.
    """

    def __init__(self, refused: Iterable[str] = ()) -> None:
        self._parts: dict[str, list[TablePart]] = {}
        self.refused: tuple[str, ...] = tuple(refused)

    def complete(self, event: Event) -> bytes | None:
        """Take a part; return the packed change if it was the last one, else None, as for any other event."""
        if not isinstance(event, TablePart):
            return None
        parts = self._parts.setdefault(event.table, [])
        if len(parts) == event.part:  # another part is a duplicate, or one before it is lost
            parts.append(event)
        if len(parts) == event.of:
            return b"".join(part.data for part in self._parts.pop(event.table))
        if len(self._parts) > _MAX_UNFINISHED:  # their writers have died
            del self._parts[next(iter(self._parts))]
        return None

    def refuse(self, table: str) -> None:
        """Note that a change does not fit."""
        self.refused = (*self.refused[1 - _MAX_REFUSED :], table)  # another thread may read it

    @property
    def unfinished(self) -> list[TablePart]:
        """The parts of changes that are not complete."""
        return [part for parts in self._parts.values() for part in parts]
