"""Read a click log of any size into a few arrays: polars streams the files and turns texts into codes.

Memory holds some 16 bytes per row and the distinct texts, not the log itself. Every file is read twice: first to check
all rows and decide the column types (`validation`, which names a bad row), then for the clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mtaw_fast.data.context import FIRST, MAX_CHARACTERS, MAX_VALUES, NO_VALUE, OTHER, UNNAMED, ContextColumns
from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.sources import Part, one_line_errors, open_part
from mtaw_fast.data.readers.validation import NO_CLICK, LogSchema, check_log, good_rows, placeable_rows
from mtaw_fast.errors import DataError, require


@dataclass(frozen=True, slots=True, eq=False)
class ClickLog:
    """T rows of a log, in file order.

    owner: int64[T], the session or user: the integer id itself, or the number of a text id by first appearance.
    item: int32[T], a code into `item_ids`, the external ids (all int or all str).
    time: int64[T], milliseconds since 1970. type: uint8[T], a code into `type_names`, or NO_CLICK for a row that does
    not count; None if the log has no types. owner_ids: the texts of text owners, by number; empty unless requested.
    bad_rows: the number of further rows that could not be read. left_out: the number of all rows, some of them further
    ones, whose type does not count. context: uint16[T, C], codes of `context_columns`; None for both without any.
    row: int64[T], the numbers of the rows in the whole log, if this is a part of it.
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
    row: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.time)

    def select(self, rows: Any) -> ClickLog:
        """Return the rows at these positions (a slice, numbers or a mask)."""
        arrays = {name: getattr(self, name) for name in ("owner", "item", "time", "type", "context", "row")}
        return replace(self, **{name: array[rows] for name, array in arrays.items() if array is not None})

    @property
    def is_click(self) -> np.ndarray:
        """bool[T]: which rows count."""
        return np.ones(len(self), dtype=bool) if self.type is None else self.type != NO_CLICK


def read_log(
    files: Sequence[Part],
    options: ClickOptions,
    *,
    item_ids: str = "auto",
    type_names: Sequence[str] = (),
    with_owner_ids: bool = False,
) -> ClickLog:
    """Read the files as one log, in that order.

    Ids are int if the column is (in a CSV: if every value is a plain integer; '007' is not one), else text.
    item_ids: 'int' or 'str' instead of what the column suggests. type_names: the names of the first type codes; others
    follow in the order of `options.types`, or of their texts. with_owner_ids: keep the owners' texts.

    Raises DataError, naming file, column, row and value, on a missing column, an empty cell, an unreadable time, times
    in two units, a column whose type has no ids, an item id of another kind than requested, more than 255 types, or a
    log without rows.
    """
    types = check_log(files, options, item_ids, type_names)
    pl = require("polars", "train")
    contexts = [f"context {number}" for number in range(len(options.context))]
    coded = ["item", *([] if types.owner_is_int else ["owner"]), *contexts]
    codes = [pl.col(name).cast(pl.Categorical(pl.Categories.random())) for name in coded]
    chunks = []
    for part in files:
        with one_line_errors(part, options):
            chunks.append(clicks_of(part, options, types).with_columns(codes).collect(engine="streaming"))
    rows = pl.concat(chunks)
    kind = None if options.type is None else rows["type"].to_numpy()
    clicks = len(rows) if kind is None else int(np.count_nonzero(kind != NO_CLICK))
    if clicks == 0 and types.counted:
        raise nothing_readable(files, types)
    if len(rows) == 0:  # rows of types that do not count, none of them readable
        empty = np.empty(0, np.int64)
        return ClickLog(empty, empty.astype(np.int32), empty, empty.astype(np.uint8), [], types.names)
    ids: Any = _texts(rows["item"])
    if types.item_is_int:
        ids = [int(text) if text else 0 for text in ids]
    owner, owner_ids = rows["owner"].to_physical().to_numpy(), []
    if not types.owner_is_int:
        # The codes of several threads vary from run to run; the row of the first appearance does not.
        rank = appearance_rank(owner, int(owner.max()) + 1)
        if with_owner_ids:
            texts = _texts(rows["owner"])
            owner_ids = [texts[code] for code in np.argsort(rank).tolist()]
        owner = rank[owner]
    columns = [_context_column(rows[name]) for name in contexts]
    return ClickLog(
        owner.astype(np.int64, copy=False),
        rows["item"].to_physical().fill_null(0).to_numpy().astype(np.int32),
        rows["time"].to_numpy(),
        kind,
        ids,
        types.names,
        owner_ids,
        types.counted - clicks,
        np.stack([column for _, column in columns], axis=1) if columns else None,
        ContextColumns(options.context, tuple(values for values, _ in columns)) if columns else None,
        types.rows - types.counted,
    )


def _context_column(column: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the values of a context column that get codes of their own, by descending count and then text, and
    uint16[T]. column: categorical, null without a value."""
    numbers = column.to_physical().cast(require("polars", "train").Int64).fill_null(-1).to_numpy()
    texts = _texts(column)
    counts = np.bincount(numbers[numbers >= 0], minlength=len(texts))
    usable = [
        code for code, text in enumerate(texts) if counts[code] and len(text) <= MAX_CHARACTERS and text != UNNAMED
    ]
    frequent = sorted(usable, key=lambda code: (-counts[code], texts[code]))[:MAX_VALUES]
    table = np.full(len(counts) + 1, OTHER, dtype=np.uint16)
    table[-1] = NO_VALUE  # what a code -1 becomes
    table[frequent] = np.arange(FIRST, FIRST + len(frequent))
    return tuple(texts[code] for code in frequent), table[numbers]


def clicks_of(part: Part, options: ClickOptions, types: LogSchema) -> Any:
    """Return the readable rows of a part, in order, as a lazy frame: owner (Int64 or String), item (String), time
    (Int64, ms) and, if the log has types, type (UInt8); then `context 0` .. (String)."""
    pl = require("polars", "train")
    frame, schema, _ = open_part(part, options)
    readings = times.forms(options.time, schema[options.time], times.zones_in(types.time_forms))
    expressions = {
        "owner": pl.col(options.owner).cast(pl.Int64 if types.owner_is_int else pl.String),
        "item": pl.col(options.item).cast(pl.String),
        "time": times.milliseconds(readings, types.time_forms, types.time_unit),
    }
    if options.type is not None:
        counting = {name: code for code, name in enumerate(types.names) if not options.types or name in options.types}
        text = pl.col(options.type).cast(pl.String)
        expressions["type"] = text.replace_strict(counting, default=NO_CLICK, return_dtype=pl.UInt8).fill_null(NO_CLICK)
    for number, name in enumerate(options.context):
        text = pl.col(name).cast(pl.String)
        expressions[f"context {number}"] = pl.when(text != "").then(text)
    condition = good_rows(part, options, schema, types) if options.skips else pl.lit(True)
    if options.types:
        # A row that only bridges gaps needs an owner and a time. What else it has is not read.
        condition = pl.when(options.counted).then(condition).otherwise(placeable_rows(part, options, schema, types))
        expressions["item"] = pl.when(options.counted).then(expressions["item"])
    if options.skips or options.types:
        frame = frame.filter(condition)
    return frame.select(**expressions)


def nothing_readable(files: Sequence[Part], types: LogSchema) -> DataError:
    """Return the error for a log whose rows are all bad."""
    return DataError(f"{files[0]}: none of {types.counted} rows can be read; --bad-rows refuse says why")


def _texts(column: Any) -> list[str]:
    """Return the values of a categorical column by their codes; '' for a code that no row has."""
    pl = require("polars", "train")
    distinct = column.drop_nulls().unique()
    by_code = dict(zip(distinct.to_physical().to_list(), distinct.cast(pl.String).to_list(), strict=True))
    return [by_code.get(code, "") for code in range(max(by_code, default=-1) + 1)]


def appearance_rank(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """Return int64[n_codes]: the rank of each code by its first position in `codes`; absent codes come last."""
    positions = np.full(n_codes, len(codes), dtype=np.int64)
    positions[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    rank = np.empty(n_codes, dtype=np.int64)
    rank[np.argsort(positions, kind="stable")] = np.arange(n_codes)
    return rank
