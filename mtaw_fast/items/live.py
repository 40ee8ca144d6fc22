"""The item table of a served catalog: changes collect, and a new table is made when the catalog is published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from mtaw_fast.items.changes import Lookup, TableChange
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.items.placements import Placements
from mtaw_fast.items.table import ItemTable

_NONE_RENEWED: Mapping[int, int] = MappingProxyType({})


class LiveItems:
    """Applies changes in order. Not thread-safe: one reader owns it; the tables that it returns are immutable.

    Patches are merged with each other before they are applied: a column of many rows is copied once for many of them.
    Of what comes before a replacement, only the columns count.

    table: the table of the model, by its internal ids. placements: the rule sets that are kept now.
    """

    def __init__(self, table: ItemTable | None) -> None:
        self._table, self._schema = table, table
        self._replaced: tuple[TableChange, ItemTable | None] | None = None  # and the columns before it
        self._patch: TableChange | None = None
        self._hidden = frozenset() if table is None else table.hidden
        self._changed = 0 if table is None else table.changed
        self.placements: Placements = {} if table is None else table.placements

    @property
    def hidden(self) -> frozenset[Any]:
        """External ids of the hidden items."""
        return self._hidden

    @property
    def made(self) -> int:
        """See `ItemTable.made`."""
        return 0 if self._table is None else self._table.made

    def apply(self, change: TableChange, time: int) -> None:
        """Apply a change of a time in Unix milliseconds.

        Raises DataError, and changes nothing, if it does not fit the table so far.
        """
        old_schema, self._schema = self._schema, change.schema_after(self._schema)
        self._changed = max(self._changed, time)
        if change.mode == "replace":
            self._replaced, self._patch = (change, old_schema), None
        else:
            self._patch = change if self._patch is None else self._patch.then(change)

    def hide(self, items: Iterable[Any]) -> None:
        """Hide items by their external ids; the catalog need not know them."""
        self._hidden = self._hidden.union(items)

    def show(self, items: Iterable[Any]) -> None:
        """Show items that were hidden."""
        self._hidden = self._hidden.difference(items)

    def latest(self, lookup: Lookup, n_rows: int) -> ItemTable | None:
        """Return the table with every change so far, in which items may wait that have just entered; see `table`."""
        if self._replaced is not None or self._patch is not None:
            return self.table(lookup, n_rows)
        return self._table

    def table(self, lookup: Lookup, n_rows: int, renewed: Mapping[int, int] = _NONE_RENEWED) -> ItemTable | None:
        """Return the table with every change so far, for a catalog of `n_rows` items; None if nothing is known.

        lookup: internal ids of external ones, -1 for those that the catalog does not know. renewed: as in `Catalog`;
        what is known about such an item stays known.
        """
        table = self._table
        if table is None:
            if self._replaced is None and self._patch is None and not self._hidden and not self.placements:
                return None
            table = ItemTable(n_rows)
        if table.n_rows != n_rows:
            table = _grown(table, n_rows, renewed)
            if len(table.waiting):
                rows = lookup(table.waiting.ids).astype(np.int64)
                table = table.admitted(rows, n_rows)
        if self._replaced is not None:
            change, schema = self._replaced
            if schema is not None:
                fields = {name: getattr(table, name) for name in ("version", "hidden", "made", "placements")}
                table = replace(schema, **fields)
            table = change.applied(table, lookup, n_rows)
        if self._patch is not None:
            table = self._patch.applied(table, lookup, n_rows)
        if table.changed != self._changed:
            table = replace(table, changed=self._changed)
        if table.hidden is not self._hidden:
            table = replace(table, hidden=self._hidden, version=table.version + 1)
        if table.placements is not self.placements:
            table = replace(table, placements=self.placements, version=table.version + 1)
        says_nothing = not (
            table.columns or table.waiting.ids or table.hidden or table.placements or table.changed or table.made
        )
        self._table, self._replaced, self._patch = None if says_nothing else table, None, None
        return self._table


def _grown(table: ItemTable, n_rows: int, renewed: Mapping[int, int]) -> ItemTable:
    """Return the table for a catalog of another size, in which renewed items have the values of their former rows."""
    sources: dict[int, int] = {}
    for former, internal_id in renewed.items():
        if internal_id >= table.n_rows:
            sources[internal_id] = sources.get(former, former)
    table = table.resized(n_rows)
    if not sources:
        return table
    rows = np.array(list(sources.values()), dtype=np.int64)
    columns = {name: column.taken(rows) for name, column in table.columns.items()}
    return table.patched(ItemFrame(list(sources), columns), np.array(list(sources), dtype=np.int64))
