"""The item table: typed columns over the internal ids of a catalog, and the rows of ids that it does not know yet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from mtaw_fast.errors import DataError, UsageError, nearest, shown
from mtaw_fast.items.columns import COLUMN_TYPES, BooleanColumn, Column, TimeColumn, VectorColumn
from mtaw_fast.items.frame import MAX_COLUMNS, ItemFrame
from mtaw_fast.items.placements import Placements, Revision

_ABOUT = "about"  # in a file: UTF-8 JSON of the schema and of the ids that wait
_LAYOUT = 1
_ROWS, _WAITING = "rows", "waiting"


class Ids(Protocol):
    """A table of external ids, as `data.item_ids.ItemIds`."""

    def lookup(self, ids: Sequence[Any]) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class ItemTable:
    """What is known about the items of a catalog. Immutable; a change makes a new one that shares unchanged columns.

    n_rows: n; row i is the item with internal id i. Everything is missing for later ids.
    columns: by name, in order of declaration; all have n rows.
    availability: the boolean column that says whether an item may be recommended; a missing value means yes.
    version: grows with every change.
    waiting: rows of ids that the catalog does not know; its columns are those of the table, or fewer.
    hidden: external ids that were hidden by hand, whether the catalog knows them or not.
    made: Unix milliseconds at which the table was read from its source; later changes do not count.
    changed: Unix milliseconds of the last change of the table while it was served; 0 without one.
    placements: the rule sets of the shop's placements, which are kept with the table.
    new_since: the time column that says since when there is an item. new: which of the ids that wait are new, and since
    when, Unix milliseconds (`new_rows`).
    """

    n_rows: int
    columns: Mapping[str, Column] = field(default_factory=dict)
    availability: str | None = None
    version: int = 0
    waiting: ItemFrame = field(default_factory=lambda: ItemFrame([], {}))
    hidden: frozenset[Any] = frozenset()
    made: int = 0
    changed: int = 0
    placements: Placements = field(default_factory=dict)
    new_since: str | None = None
    new: Mapping[Any, int] = field(default_factory=dict)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Column:
        """Return a column. Raises UsageError if there is none of this name."""
        column = self.columns.get(name)
        if column is None:
            names = ", ".join(self.columns) or "none"
            raise UsageError(
                f"the item table has no column {shown(name, 60)}; its columns are {shown(names, 300)}"
                f"{nearest(name, self.columns)}"
            )
        return column

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column."""
        return {name: column.kind for name, column in self.columns.items()}

    @property
    def public(self) -> tuple[str, ...]:
        """The names of the public columns."""
        return tuple(name for name, column in self.columns.items() if column.public)

    @property
    def unavailable(self) -> np.ndarray | None:
        """bool[n]: items whose availability is false; None without such a column."""
        if self.availability is None:
            return None
        column = self.columns[self.availability]
        assert isinstance(column, BooleanColumn)
        return column.values == 0

    def has_values(self) -> np.ndarray:
        """Return bool[n_rows]: whether an item has a value in any column."""
        has_value = np.zeros(self.n_rows, dtype=bool)
        for column in self.columns.values():
            has_value |= ~column.missing
        return has_value

    def values_at(self, names: Iterable[str], rows: np.ndarray) -> list[dict[str, Any]]:
        """Return for each of rows int[m] its values by column name; missing ones are left out."""
        entries: list[dict[str, Any]] = [{} for _ in range(len(rows))]
        for name in names:
            for entry, value in zip(entries, self[name].values_at(rows), strict=True):
                if value is not None:
                    entry[name] = value
        return entries

    def replaced(
        self,
        frame: ItemFrame,
        rows: np.ndarray,
        n_rows: int,
        public: Iterable[str] | None = None,
        availability: str | None = None,
        new_since: str | None = None,
    ) -> ItemTable:
        """Return the table with the content of a frame alone.

        frame: of m items; a column that this table has too must have the same kind. rows: int[m], their internal ids;
        -1 for an id that the catalog does not know: its row waits. n_rows: the size of the catalog. public,
        availability, new_since: as the attributes; by default as in this table.

        Raises DataError if a column has another kind or length of vectors than here, the availability is not boolean,
        or new_since is no time.
        """
        self._check_kinds(frame)
        empty = ItemTable(
            n_rows, {}, None, self.version, hidden=self.hidden, made=self.made, placements=self.placements
        )
        public_names = set(self.public) & set(frame.columns) if public is None else set(public)
        if availability is None and self.availability in frame.columns:
            availability = self.availability
        if new_since is None and self.new_since in frame.columns:
            new_since = self.new_since
        return empty.patched(frame, rows, n_rows, public_names, availability, new_since)

    def patched(
        self,
        frame: ItemFrame,
        rows: np.ndarray,
        n_rows: int | None = None,
        public: Iterable[str] | None = None,
        availability: str | None = None,
        new_since: str | None = None,
    ) -> ItemTable:
        """Return the table with the given values of a frame, and everything else as it is; see `replaced`.

        public: columns that are public from now on, together with those that are already.
        """
        self._check_kinds(frame)
        version = self.version + 1
        count = max(self.n_rows, n_rows or 0)
        columns = dict(self.resized(count).columns)
        known = rows >= 0
        for name, source in frame.columns.items():
            chosen = known & frame.given[name] if name in frame.given else known
            target_rows, picked = rows[chosen], np.flatnonzero(chosen)
            if name not in columns:
                source_rows = np.full(count, source.n_rows)  # a row after the last, whose value is missing
                source_rows[target_rows] = picked
                columns[name] = replace(source.resized(source.n_rows + 1).taken(source_rows), version=version)
            elif len(picked):
                columns[name] = replace(columns[name].patched(target_rows, source.taken(picked)), version=version)
        if len(columns) > MAX_COLUMNS:
            raise DataError(f"the item table would have {len(columns)} columns; at most {MAX_COLUMNS}")
        for name in set(public or ()):
            if not columns[name].public:
                columns[name] = replace(columns[name], public=True)
        table = replace(
            self, n_rows=count, columns=columns, availability=availability or self.availability, version=version,
            new_since=new_since or self.new_since,
        )  # fmt: skip
        table._check_named_columns()
        return table._with_waiting(frame.taken(np.flatnonzero(~known))) if not known.all() else table

    def withheld(self, ids: Ids, size: int) -> np.ndarray | None:
        """Return bool[size]: items that are hidden or not available; None if there is none."""
        mask = np.zeros(size, dtype=bool)
        unavailable = self.unavailable
        if unavailable is not None:
            count = min(size, len(unavailable))
            mask[:count] = unavailable[:count]
        if self.hidden:
            internal_ids = ids.lookup(list(self.hidden))
            mask[internal_ids[(internal_ids >= 0) & (internal_ids < size)]] = True
        return mask if mask.any() else None

    def resized(self, n_rows: int) -> ItemTable:
        """Return the table for a catalog of another size; items without a row have missing values."""
        if n_rows == self.n_rows:
            return self
        columns = {name: column.resized(n_rows) for name, column in self.columns.items()}
        return replace(self, n_rows=n_rows, columns=columns)

    def admitted(self, rows: np.ndarray, n_rows: int) -> ItemTable:
        """Return the table in which ids that waited have their rows.

        rows: the internal id of each id in `waiting`, -1 for one that waits on. n_rows: the size of the catalog.
        """
        known = rows >= 0
        if not known.any():
            return self
        waiting = self.waiting.taken(np.flatnonzero(~known))
        new = {item: time for item, time in self.new.items() if item in waiting.row_of} if self.new else self.new
        table = replace(self, waiting=waiting, new=new)
        return table.patched(self.waiting.taken(np.flatnonzero(known)), rows[known], n_rows)

    def _with_waiting(self, frame: ItemFrame) -> ItemTable:
        """Return the table with more rows that wait, or with changed ones."""
        waiting = self.waiting.merged(frame)
        return replace(self, waiting=ItemFrame(waiting.ids, waiting.columns))

    def _check_kinds(self, frame: ItemFrame) -> None:
        for name, column in frame.columns.items():
            stored = self.columns.get(name)
            if stored is not None and stored.kind != column.kind:
                raise DataError(
                    f"column {name!r} is {stored.kind} in the item table, not {column.kind}; keep its kind, or replace "
                    "the table without it first"
                )
            if isinstance(stored, VectorColumn) and isinstance(column, VectorColumn):
                stored.check_length(column)

    def _check_named_columns(self) -> None:
        since = self.new_since
        if since is not None and not isinstance(self.columns.get(since), TimeColumn):
            kind = self.columns[since].kind if since in self.columns else "none"
            raise DataError(
                f"new_since {shown(since, 60)} must be a column of time, not {kind}; name another column, or declare "
                f"its kind, as with --kind {shown(since, 60)}=time"
            )
        name = self.availability
        if name is None:
            return
        if name not in self.columns:
            raise DataError(f"the availability {shown(name, 60)} is not a column of the item table; add it")
        if self.columns[name].kind != "boolean":
            raise DataError(
                f"the availability {name!r} is a column of {self.columns[name].kind}, not boolean: declare it, as with "
                f"--kind {name}=boolean, if it has only 0 and 1; else add such a column, as {name} > 0"
            )

    # Storage

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the table as named arrays, for a safetensors file."""
        about: dict[str, Any] = {
            "layout": _LAYOUT,
            "n_rows": self.n_rows,
            "availability": self.availability,
            "version": self.version,
            "columns": [
                {"name": column.name, "kind": column.kind, "public": column.public, "version": column.version}
                for column in self.columns.values()
            ],
            "waiting": self.waiting.ids,
            "waiting_columns": list(self.waiting.columns),
            "hidden": sorted(self.hidden),
            "made": self.made,
            "changed": self.changed,
            "placements": dict(self.placements),
            "new_since": self.new_since,
            "new": [*self.new.items()],
        }
        arrays = {_ABOUT: np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)}
        names = list(self.columns)
        for part, columns in ((_ROWS, self.columns), (_WAITING, self.waiting.columns)):
            for name, column in columns.items():
                arrays |= {f"{part}/{names.index(name)}/{key}": array for key, array in column.arrays().items()}
        return arrays

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], where: str = "item table") -> ItemTable:
        """Return the table that `arrays` stored; values are views. Raises DataError if they are damaged."""
        try:
            about = json.loads(arrays[_ABOUT].tobytes())
            if about["layout"] != _LAYOUT:
                raise DataError(f"{where} has layout {shown(about['layout'])}, not {_LAYOUT}; upgrade mtaw-fast")
            n_rows, waiting = int(about["n_rows"]), list(about["waiting"])
            entries = [(str(entry["name"]), entry) for entry in about["columns"]]
            columns = {
                name: _column(arrays, f"{_ROWS}/{number}/", name, entry) for number, (name, entry) in enumerate(entries)
            }
            names, by_name = list(columns), dict(entries)
            waiting_columns = {
                name: _column(arrays, f"{_WAITING}/{names.index(name)}/", name, by_name[name])
                for name in about["waiting_columns"]
            }
            table = cls(
                n_rows, columns, about["availability"], int(about["version"]), ItemFrame(waiting, waiting_columns),
                frozenset(about["hidden"]), int(about["made"]), int(about.get("changed", 0)),
                _placements(about["placements"]), about.get("new_since"),
                {item: int(time) for item, time in about.get("new", ())},
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"{where} is damaged ({type(error).__name__}: {error}); write the file again") from None
        wrong = [column.name for column in columns.values() if column.n_rows != n_rows]
        wrong += [column.name for column in waiting_columns.values() if column.n_rows != len(waiting)]
        if wrong:
            raise DataError(f"{where} is damaged (rows of {wrong[0]!r}); write the file again")
        table._check_named_columns()
        return table


def _column(arrays: Mapping[str, np.ndarray], prefix: str, name: str, about: Mapping[str, Any]) -> Column:
    parts = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
    return COLUMN_TYPES[about["kind"]].of_arrays(name, bool(about["public"]), int(about["version"]), parts)


def _placements(kept: Mapping[str, Any]) -> Placements:
    return {
        str(name): tuple(Revision(int(number), int(time), dict(content)) for number, time, content in revisions)
        for name, revisions in kept.items()
    }
