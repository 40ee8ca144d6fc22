"""What the events that change the item table mean, for processes that learn and for those that do not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemTable, TableChange
from mtaw_fast.items.live import LiveItems
from mtaw_fast.items.placements import Placements, placements_after
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Event, HideItems, SetPlacement, ShowItems, TablePart
from mtaw_fast.online.log.table_parts import TableParts


def live_after(events: Sequence[Event], table: ItemTable | None) -> LiveItems:
    """Return a table after events that change it."""
    live, parts = LiveItems(table), TableParts()
    for event in events:
        apply_item_event(event, live, parts)
    return live


class ItemChanges:
    """Applies the events of a log that change a bundle's item table, and ignores the others; used as `OnlineState`."""

    can_wait = False
    arrival = 0

    def __init__(self, table: ItemTable | None) -> None:
        self._base = table
        self.items, self.table_parts = LiveItems(table), TableParts()
        self.position = START
        self.changed = True

    def restarted(self) -> ItemChanges:
        return ItemChanges(self._base)

    def apply(self, entries: Sequence[LogEntry]) -> None:
        for event, position in entries:
            if apply_item_event(event, self.items, self.table_parts) is None:
                self.changed = True
            self.position = position

    def catalog(self) -> LiveItems:
        self.changed = False
        return self.items

    def republish(self) -> None:
        self.changed = True


def placements_after_event(kept: Placements, event: SetPlacement) -> Placements:
    """Return the placements after an event."""
    if event.revisions is not None:
        return {**kept, event.name: event.revisions}
    return placements_after(kept, event.name, event.content, event.time)


WRONG_TABLE = "wrong_table"
_LOG = logging.getLogger("mtaw_fast.online")


def apply_item_event(
    event: Event, items: LiveItems, parts: TableParts, before: Callable[[TableChange], None] | None = None
) -> str | None:
    """Apply an event to the item table; return None if it changed, else why not.

    parts: the incomplete changes, which receive a part of a table, and the changes that did not fit. before: called
    with a change of the table before it is applied.
    """
    if isinstance(event, HideItems):
        items.hide(event.items)
    elif isinstance(event, ShowItems):
        items.show(event.items)
    elif isinstance(event, SetPlacement):
        items.placements = placements_after_event(items.placements, event)
    elif not isinstance(event, TablePart):
        return "no_change"
    else:
        data = parts.complete(event)
        if data is None or event.time <= items.made:  # the bundle's table is newer
            return "no_change"
        try:
            change = TableChange.unpacked(data)
            if before is not None:
                before(change)
            items.apply(change, event.time)
        except DataError as error:  # another process changed the table after the sender had checked it
            parts.refuse(event.table)
            _LOG.warning("a change of the item table was skipped: %s", error)
            return WRONG_TABLE
    return None
