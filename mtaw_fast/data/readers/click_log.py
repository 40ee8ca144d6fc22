"""Read a click log of any size into a few arrays: polars streams the files and turns texts into codes.

Memory holds some 16 bytes per row and the distinct texts, not the log itself. Every file is read twice: first to check
all rows and decide the column types (`validation`, which names a bad row), then for the clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.context_codes import ContextReader
from mtaw_fast.data.readers.log_columns import Columns, open_part
from mtaw_fast.data.readers.sources import Part, one_line_errors
from mtaw_fast.data.readers.validation import NO_CLICK, LogSchema, check_log, good_rows, placeable_rows
from mtaw_fast.errors import DataError, require

__all__ = ["NO_CLICK", "ClickLog", "Columns", "appearance_rank", "read_log"]


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """T rows of a log, in file order.

    owner: int64[T], the session or user: the integer id itself, or the number of a text id by first appearance.
    item: int32[T], a code into `item_ids`, the external ids (all int or all str).
    time: int64[T], milliseconds since 1970. type: uint8[T], a code into `type_names`, or NO_CLICK for a row that does
    not count; None if the log has no types. owner_ids: the texts of text owners, by number; empty unless requested.
    bad_rows: the number of further rows that could not be read. left_out: the number of all rows, some of them further
    ones, whose type does not count. context: uint16[T, C], codes of `context_columns`; None
    for both without any.
    """

    owner: np.ndarray
    item: np.ndarray
    time: np.ndarray
    type: np.ndarray | None
    item_ids: list[int] | list[str]
    type_names: tuple[str, ...] = ()
    owner_ids: list[str] = field(default_factory=list)
    bad_rows: int = 0
    context: np.ndarray | None = None
    context_columns: ContextColumns | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.time)

    def head(self, rows: int) -> ClickLog:
        """Return the first `rows` rows, as views."""
        return self.select(slice(rows))

    def select(self, rows: Any) -> ClickLog:
        """Return the rows at these positions (a slice, numbers or a mask)."""
        kind = None if self.type is None else self.type[rows]
        context = None if self.context is None else self.context[rows]
        return replace(
            self, owner=self.owner[rows], item=self.item[rows], time=self.time[rows], type=kind, context=context
        )

    def without_rows(self) -> ClickLog:
        """Return the log with its names and no rows, so that their memory can be freed."""
        return self.select(np.empty(0, dtype=np.int64))

    @property
    def has_clicks(self) -> bool:
        """Whether any row counts."""
        return len(self) > 0 and (self.type is None or bool((self.type != NO_CLICK).any()))


def read_log(
    files: Sequence[Part],
    columns: Columns,
    *,
    item_ids: str = "auto",
    type_names: Sequence[str] = (),
    with_owner_ids: bool = False,
) -> ClickLog:
    """Read the files as one log, in that order.

    Ids are int if the column is (in a CSV: if every value is a plain integer; '007' is not one), else text.
    item_ids: 'int' or 'str' instead of what the column suggests. type_names: the names of the first type codes; others
    follow in the order of `columns.types`, or of their texts. with_owner_ids: keep the owners' texts.

    Raises DataError, naming file, column, row and value, on a missing column, an empty cell, an unreadable time, times
    in two units, a column whose type has no ids, an item id of another kind than requested, more than 255 types, or a
    log without rows.
    """
    types = check_log(files, columns, item_ids, type_names)
    pl = require("polars", "train")
    categories = pl.Categories.random(), pl.Categories.random()
    owners, items, stamps, kinds, context = [], [], [], [], ContextReader(columns.context)
    context_categories = [pl.Categories.random() for _ in columns.context]
    texts: dict[int, str] = {}
    owner_texts: dict[int, str] = {}
    for part in files:
        coded = {"item": pl.col("item").cast(pl.Categorical(categories[1]))}
        if not types.owner_is_int:
            coded["owner"] = pl.col("owner").cast(pl.Categorical(categories[0]))
        for number, category in enumerate(context_categories):
            coded[f"context {number}"] = pl.col(f"context {number}").cast(pl.Categorical(category))
        with one_line_errors(part, columns.bad_rows):
            chunk = clicks_of(part, columns, types).with_columns(**coded).collect(engine="streaming")
        if with_owner_ids and not types.owner_is_int:
            owner_texts.update(_texts(chunk["owner"]))
        owners.append(chunk["owner"].to_physical().to_numpy())
        stamps.append(chunk["time"].to_numpy())
        if columns.type is not None:
            kinds.append(chunk["type"].to_numpy())
        for number in range(len(columns.context)):
            values = chunk[f"context {number}"]
            codes = values.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
            context.add(number, {code: text for code, text in _texts(values) if text is not None}, codes)
        texts.update(_texts(chunk["item"]))
        items.append(chunk["item"].to_physical().fill_null(0).to_numpy().astype(np.int32))
    clicks = sum(map(len, stamps)) if not kinds else sum(int(np.count_nonzero(kind != NO_CLICK)) for kind in kinds)
    if clicks == 0 and types.counted:
        raise nothing_readable(files, types)
    if not any(map(len, stamps)):  # rows of types that do not count, none of them readable
        empty = np.empty(0, np.int64)
        return ClickLog(empty, empty.astype(np.int32), empty, empty.astype(np.uint8), [], types.names)
    ids: Any = [texts.get(code, "") for code in range(max(texts, default=-1) + 1)]
    if types.item_is_int:
        ids = [int(text) if text else 0 for text in ids]
    owner = np.concatenate(owners)
    del owners
    owner_ids: list[str] = []
    if not types.owner_is_int:
        rank = appearance_rank(owner, int(owner.max()) + 1)
        # The codes of several threads vary from run to run; the row of the first appearance does not.
        owner_ids = [owner_texts.get(code, "") for code in np.argsort(rank).tolist()] if with_owner_ids else []
        owner = rank[owner]
    context_columns, context_codes = context.finish() if columns.context else (None, None)
    return ClickLog(
        owner.astype(np.int64, copy=False),
        np.concatenate(items),
        np.concatenate(stamps),
        np.concatenate(kinds) if columns.type is not None else None,
        ids,
        types.names,
        owner_ids,
        types.counted - clicks,
        context_codes,
        context_columns,
        types.rows - types.counted,
    )


def clicks_of(part: Part, columns: Columns, types: LogSchema) -> Any:
    """Return the readable rows of a part, in order, as a lazy frame: owner (Int64 or String), item (String), time
    (Int64, ms) and, if the log has types, type (UInt8); then `context 0` .. (String)."""
    pl = require("polars", "train")
    frame, schema, _ = open_part(part, columns)
    readings = times.forms(columns.time, schema[columns.time], times.zones_in(types.time_forms))
    expressions = {
        "owner": pl.col(columns.owner).cast(pl.Int64 if types.owner_is_int else pl.String),
        "item": pl.col(columns.item).cast(pl.String),
        "time": times.milliseconds(readings, types.time_forms, types.time_unit),
    }
    if columns.type is not None:
        expressions["type"] = _type_expression(columns, types.names)
    for number, name in enumerate(columns.context):
        text = pl.col(name).cast(pl.String)
        expressions[f"context {number}"] = pl.when(text != "").then(text)
    condition = good_rows(part, columns, schema, types) if columns.skips else pl.lit(True)
    if columns.types:
        # A row that only bridges gaps needs an owner and a time. What else it has is not read.
        condition = pl.when(columns.counted).then(condition).otherwise(placeable_rows(part, columns, schema, types))
        expressions["item"] = pl.when(columns.counted).then(expressions["item"])
    if columns.skips or columns.types:
        frame = frame.filter(condition)
    return frame.select(**expressions)


def nothing_readable(files: Sequence[Part], types: LogSchema) -> DataError:
    """Return the error for a log whose rows are all bad."""
    return DataError(f"{files[0]}: none of {types.counted} rows can be read; --bad-rows refuse says why")


def _texts(column: Any) -> Any:
    """Return (code, text) of every distinct value of a categorical column."""
    pl = require("polars", "train")
    distinct = column.drop_nulls().unique()
    return zip(distinct.to_physical().to_list(), distinct.cast(pl.String).to_list(), strict=True)


def _type_expression(columns: Columns, names: Sequence[str]) -> Any:
    """Return the polars expression of a row's type as a code into `names`, NO_CLICK if it does not count."""
    pl = require("polars", "train")
    codes = {name: code for code, name in enumerate(names) if not columns.types or name in columns.types}
    text = pl.col(columns.type).cast(pl.String)
    return text.replace_strict(codes, default=NO_CLICK, return_dtype=pl.UInt8).fill_null(NO_CLICK)


def appearance_rank(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """Return int64[n_codes]: the rank of each code by its first position in `codes`; absent codes come last."""
    positions = np.full(n_codes, len(codes), dtype=np.int64)
    positions[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    rank = np.empty(n_codes, dtype=np.int64)
    rank[np.argsort(positions, kind="stable")] = np.arange(n_codes)
    return rank
