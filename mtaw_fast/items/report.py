"""What is missing or odd in an item table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mtaw_fast.errors import nearest, shown
from mtaw_fast.items.columns import CategoryColumn, Column, NumberColumn
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.items.table import ItemTable

_EXACT = 2.0**53  # larger whole numbers are rounded as float64
_MANY_LABELS = 1000
_NAMED = 3


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """One column. missing: how many of the catalog's items have no value."""

    name: str
    kind: str
    public: bool
    missing: int


@dataclass(frozen=True, slots=True)
class ItemsReport:
    """What a table says about a catalog.

    rows: rows of the source. known: those whose id the catalog knows. new: others that start their item when the bundle
    is loaded, if their attributes say enough. The rest wait until the catalog knows them.
    items: items of the catalog. unlisted: those that have no value in any column.
    columns: all columns of the item table. notes: what is odd, one line each.
    """

    rows: int
    known: int
    new: int
    items: int
    unlisted: int
    columns: tuple[ColumnReport, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, frame: ItemFrame, known: np.ndarray, table: ItemTable, before: ItemTable | None = None) -> ItemsReport:
        """Report on a frame and the table that it was brought into. known: bool[m], whether the catalog has each id.

        before: the table until then.
        """
        masks = {name: column.missing for name, column in table.columns.items()}
        columns = tuple(
            ColumnReport(name, column.kind, column.public, int(np.count_nonzero(masks[name])))
            for name, column in table.columns.items()
        )
        notes = []
        for name, source in frame.columns.items():
            column = table.columns.get(name)
            if column is None or column.kind != source.kind:  # the table is shared, and this is read after the change
                now = "gone" if column is None else f"a {column.kind}"
                notes.append(f"column {name!r} is {now}: another change of the table came at the same time")
            else:
                notes += _notes(column, masks[name])
        old = {} if before is None else before.columns
        for name in old and frame.columns:
            if name not in old:
                notes.append(f"column {name!r} is new in the table{nearest(name, old)}")
        notes += [f"column {name!r} is not in the table any more" for name in old if name not in table]
        if before is not None:
            lost = int(np.count_nonzero(before.has_values() & ~table.has_values()[: before.n_rows]))
            notes += [f"{lost:,} items of the catalog lost all their values; a patch keeps them"] if lost else []
        unknown = [item for item, knows in zip(frame.ids, known.tolist(), strict=True) if not knows]
        waiting = [item for item in unknown if item not in table.new]
        if waiting:
            notes.append(
                f"{'no id of these rows is' if not known.any() else 'some ids are not'} in the catalog, such as "
                f"{', '.join(shown(item, 40) for item in waiting[:_NAMED])}: these rows wait for a first click, with "
                "--learn, or for add_items. After a training with a table, a row with a known category, a text or "
                "a vector enters at once if it comes to services (--learn, --state), or if it is new to the bundle, by "
                "its date (--new-since) or as one of at most 1,000. Else check the ids and their type"
            )
        n_known, unlisted = int(np.count_nonzero(known)), int(np.count_nonzero(~table.has_values()))
        n_new = len(unknown) - len(waiting)
        return cls(len(frame), n_known, n_new, table.n_rows, unlisted, columns, tuple(notes))

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return table_lines(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        return {**values, "columns": list(values["columns"]), "notes": list(self.notes)}


def table_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the lines that describe an `ItemsReport.as_dict()`."""
    rows, known, new, columns = report["rows"], report["known"], report["new"], report["columns"]
    lines = [
        f"{rows:,} rows: {known:,} of items in the catalog, {new:,} of new items, "
        f"{rows - known - new:,} that wait for a first click",
        f"{report['unlisted']:,} of {report['items']:,} items of the catalog have no value in any column",
    ]
    width = max((len(column["name"]) for column in columns), default=0)
    for column in columns:
        reader = "public" if column["public"] else "private"
        lines.append(f"  {column['name']:{width}}  {column['kind']:10}  {reader:7}  {column['missing']:,} missing")
    return lines + [f"note: {note}" for note in report["notes"]]


def _notes(column: Column, missing: np.ndarray) -> list[str]:
    name, count = column.name, int(np.count_nonzero(~missing))
    notes = []
    if len(missing) and not count:
        notes.append(f"column {name!r} has no value for any item of the catalog")
    if not name.isidentifier():
        notes.append(f"column {name!r} is written item[{name!r}] in rules; letters, digits and _ read better")
    if isinstance(column, NumberColumn) and count:
        known = column.values[~missing]
        if np.abs(known).max() > _EXACT:
            notes.append(f"column {name!r} has numbers above 2^53, which are rounded; make ids a category")
        if count > 1 and known.min() == known.max():
            notes.append(f"column {name!r} has the same value for every item")
    if isinstance(column, CategoryColumn) and count > _MANY_LABELS and len(column.labels) > count // 2:
        notes.append(
            f"column {name!r} is a category with {len(column.labels):,} values for {count:,} items; is it text?"
        )
    return notes
