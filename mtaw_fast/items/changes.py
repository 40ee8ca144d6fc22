"""A change of the item table: how it is checked and applied, and how it is packed into records of an event log."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.items.frame import ItemFrame, declared
from mtaw_fast.items.table import ItemTable
from mtaw_fast.system.fork_lock import PARSING

Mode = Literal["replace", "patch"]
Lookup = Callable[[Sequence[Any]], np.ndarray]  # external ids to internal ones; -1 for an unknown id

_GIVEN, _MODE, _PUBLIC = "given/", "mode", "public"
_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TableChange:
    """A table that replaces the item table, or values that patch it.

    mode: 'replace': the table becomes this one; 'patch': given values change, everything else stays. frame: the rows.
    public: columns that are public; in a patch, in addition to those that are; None: as they are. availability: the
    boolean column that says whether an item may be recommended, new_since: the time column that says since when there
    is an item; None: as it is.
    """

    mode: Mode
    frame: ItemFrame
    public: tuple[str, ...] | None = None
    availability: str | None = None
    new_since: str | None = None

    @classmethod
    def of(
        cls,
        data: Any,
        mode: str = "replace",
        *,
        before: ItemTable | None = None,
        id: str = "id",
        kinds: Mapping[str, str] | None = None,
        public: Sequence[str] | None = None,
        availability: str | None = None,
        new_since: str | None = None,
        where: str = "items",
    ) -> TableChange:
        """Check a table of any source against the item table so far, and return it as a change.

        data, id, kinds, where: as in `ItemFrame.of`; or data is an ItemFrame. The others: as the attributes.

        Raises DataError on values that do not fit, UsageError on a wrong option.
        """
        if mode not in ("replace", "patch"):
            raise UsageError(f"{where}: mode must be 'replace' or 'patch', not {shown(mode, 40)}")
        kept = {} if before is None else before.kinds
        frame = data
        if not isinstance(data, ItemFrame):
            frame = ItemFrame.of(data, id=id, kinds=kinds or {}, kept=kept, where=where)
        columns = frame.columns if mode == "replace" else {**kept, **frame.columns}
        declared(list(kinds or {}), frame.columns, "kinds", where)
        names = None if public is None else tuple(sorted(declared(public, columns, "public", where)))
        for option, name in (("availability", availability), ("new_since", new_since)):
            if name is not None:
                declared([name], columns, option, where)
        change = cls("patch" if mode == "patch" else "replace", frame, names, availability, new_since)
        try:
            change.schema_after(before)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        return change

    def schema_after(self, before: ItemTable | None) -> ItemTable:
        """Return the columns after the change as a table without rows. Raises DataError if the change does not fit."""
        schema = ItemTable(0)
        if before is not None:
            columns = {name: column.resized(0) for name, column in before.columns.items()}
            schema = ItemTable(0, columns, before.availability, new_since=before.new_since)
        return self.without_rows().applied(schema, lambda _: _NO_ROWS, 0)

    def without_rows(self) -> TableChange:
        """Return the same change without its rows: it changes the columns alone."""
        return replace(self, frame=self.frame.taken(_NO_ROWS))

    def changes_columns_as(self, other: TableChange) -> bool:
        """Return whether a change does the same to the columns."""
        return (self.mode, self.public, self.availability, self.new_since, self._kinds) == (
            other.mode, other.public, other.availability, other.new_since, other._kinds
        )  # fmt: skip

    @property
    def _kinds(self) -> dict[str, str]:
        return {name: column.kind for name, column in self.frame.columns.items()}

    def applied(self, table: ItemTable, lookup: Lookup, n_rows: int) -> ItemTable:
        """Return the table after the change. lookup: looks the catalog's ids up. n_rows: the size of the catalog."""
        rows = lookup(self.frame.ids).astype(np.int64)
        change = table.patched if self.mode == "patch" else table.replaced
        return change(self.frame, rows, n_rows, self.public, self.availability, self.new_since)

    def then(self, later: TableChange) -> TableChange:
        """Return one patch that does what this patch and then a later one do."""
        public = None
        if self.public is not None or later.public is not None:
            public = tuple(sorted({*(self.public or ()), *(later.public or ())}))
        frame, availability = self.frame.merged(later.frame), later.availability or self.availability
        return TableChange("patch", frame, public, availability, later.new_since or self.new_since)

    def packed(self) -> bytes:
        """Return the change as compressed bytes."""
        frame, columns = self.frame, self.frame.columns
        schema = {name: column.resized(0) for name, column in columns.items()}
        table = ItemTable(0, schema, self.availability if self.availability in schema else None, 0, frame)
        arrays = table.arrays()
        arrays |= {f"{_GIVEN}{list(columns).index(name)}": mask for name, mask in frame.given.items()}
        arrays[_MODE] = np.array([self.mode, self.availability or "", self.new_since or ""])
        if self.public is not None:
            arrays[_PUBLIC] = np.array(["", *self.public])  # without the first, an empty list would have no type
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        return zlib.compress(stream.getvalue(), 1)

    @classmethod
    def unpacked(cls, data: bytes) -> TableChange:
        """Return the change that `packed` stored. Raises DataError if the bytes are damaged."""
        try:
            with PARSING, np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False) as stored:
                arrays = dict(stored.items())
            mode, availability, new_since = [*arrays.pop(_MODE).tolist(), ""][:3]  # earlier ones have no third
            public = arrays.pop(_PUBLIC, None)
        except (zlib.error, zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError) as error:
            raise DataError(f"a change of the item table is damaged ({shown(error)})") from None
        table = ItemTable.of({name: array for name, array in arrays.items() if not name.startswith(_GIVEN)})
        waiting = table.waiting
        names = list(waiting.columns)
        given = {
            names[int(name.removeprefix(_GIVEN))]: mask for name, mask in arrays.items() if name.startswith(_GIVEN)
        }
        frame = ItemFrame(waiting.ids, waiting.columns, given)
        names_public = None if public is None else tuple(public.tolist()[1:])
        return cls(mode, frame, names_public, availability or None, new_since or None)
