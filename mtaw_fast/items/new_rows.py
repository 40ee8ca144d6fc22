"""Which rows that wait for their item are new, so that the item starts without a click.

New with a column of dates (`new_since`): the row's date is within `WINDOW` before the last click of the training, or
later; of more than `MOST` rows, the newest. Without it: the table of the bundle before, if there was one, did not have
the row, for `WINDOW` after it came; more than `MOST` rows that come at once are a catalog, not news, and none is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mtaw_fast.items.columns import NO_TIME, TimeColumn
from mtaw_fast.items.table import ItemTable

WINDOW = 7 * 86_400_000  # ms
MOST = 1_000  # each costs a search for its neighbors whenever the bundle is loaded

Knows = Callable[[Sequence[Any]], np.ndarray]


def with_new(
    table: ItemTable, until: int | None, before: ItemTable | None = None, known: Knows | None = None
) -> ItemTable:
    """Return the table with `new` by the rule of this module.

    until: Unix milliseconds of the last click of the training; None without times: when the table was made. before: the
    table of the bundle before; None if there was none. known: returns the internal ids of that bundle's items, -1 for
    other ids; by default those of the table's own catalog, whose items do not wait.
    """
    begin, waiting = (table.made if until is None else until) - WINDOW, table.waiting
    if table.new_since is not None:
        column = waiting.columns.get(table.new_since)
        if column is None:
            return replace(table, new={})
        assert isinstance(column, TimeColumn)
        rows = np.flatnonzero((column.values != NO_TIME) & (column.values > begin))
        rows = np.sort(rows[np.argsort(-column.values[rows], kind="stable")[:MOST]])
        return replace(table, new={waiting.ids[row]: int(column.values[row]) for row in rows.tolist()})
    if before is None or not before.columns:
        return replace(table, new={})
    is_known = np.zeros(len(waiting), dtype=bool) if known is None else known(waiting.ids) >= 0
    had = before.waiting.row_of
    came = [item for item, knows in zip(waiting.ids, is_known.tolist(), strict=True) if not knows and item not in had]
    new = {item: time for item, time in before.new.items() if time > begin and item in waiting.row_of}
    return replace(table, new={**new, **(dict.fromkeys(came, table.made) if len(came) <= MOST else {})})
