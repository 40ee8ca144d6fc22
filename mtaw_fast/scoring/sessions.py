"""Read sessions from Parquet as a stream: `session_id` and a list column `items`, any number of rows.
Columns with the names of the bundle's context are the context of each session's visit. A list column `types` has the
types of the clicks, if the bundle's ranker reads types.

This uses pyarrow, which reads a row group page by page and writes it batch by batch, in bounded memory and with bytes
that depend only on the data. Polars' streaming sinks choose the row groups themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.data.context import NO_VALUE, ContextColumns
from mtaw_fast.data.sessions import offsets_of
from mtaw_fast.errors import DataError, nearest, require
from mtaw_fast.kernels.native.memory_query import NO_TYPE

SESSION, ITEMS, SCORES, TYPES = "session_id", "items", "scores", "types"
FALLBACK, UNKNOWN = "fallback", "unknown"
_BUFFER = 1 << 22  # bytes of a column that are read at a time


@contextlib.contextmanager
def open_sessions(path: Path) -> Iterator[Any]:
    """Open the file as a `pyarrow.parquet.ParquetFile`. Raises DataError if it has no session columns."""
    parquet = require("pyarrow.parquet", "score")
    with _one_line(path):
        file = parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    with file:
        _check(path, file.schema_arrow)
        yield file


def read_rows(path: Path, first: int, rows: int, batch_rows: int, context: Sequence[str] = ()) -> Iterator[Any]:
    """Yield `rows` rows from `first` on, as record batches of `batch_rows` rows, the last one shorter.

    A row group is read from its start, so its rows before `first` are decoded and dropped. context: further columns.

    Raises DataError, naming file and row, if rows are gone or a list is missing.
    """
    pa = require("pyarrow", "score")
    done, skip = 0, first
    with open_sessions(path) as file:
        groups: list[int] = []
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if not groups and skip >= size:
                skip -= size
                continue
            groups.append(group)
        waiting: list[Any] = []
        pending = 0
        with _one_line(path):
            for batch in (
                file.iter_batches(batch_rows, row_groups=groups, columns=[SESSION, ITEMS, *context]) if rows else ()
            ):
                begin = min(skip, len(batch))
                skip -= begin
                batch = batch.slice(begin, min(len(batch) - begin, rows - done - pending))
                _refuse_missing(path, batch.column(ITEMS), first + done + pending)
                waiting.append(batch)
                pending += len(batch)
                # The output must not depend on the row groups of the file.
                while pending >= batch_rows or (pending and done + pending == rows):
                    table = pa.Table.from_batches(waiting)
                    count = min(pending, batch_rows)
                    yield table.slice(0, count).combine_chunks().to_batches()[0]
                    waiting = table.slice(count).to_batches()
                    done, pending = done + count, pending - count
                if done == rows:
                    break
    if done < rows:
        raise DataError(f"{path} changed: rows {first + done:,} and later are gone; start again with another folder")


def packed(items: Any) -> tuple[list[Any], np.ndarray]:
    """Return a list column as (all ids end to end, int64[B + 1] where each list begins)."""
    pa = require("pyarrow", "score")
    lengths = pa.compute.list_value_length(items).to_numpy(zero_copy_only=False)
    return items.flatten().to_pylist(), offsets_of(lengths)


def context_in(schema: Any, columns: ContextColumns | None, path: Path) -> tuple[str, ...]:
    """Return the context columns that a file has. Raises DataError if one holds neither texts nor whole numbers."""
    names = () if columns is None else tuple(name for name in columns.names if name in schema.names)
    types = require("pyarrow", "score").types
    for name in names:
        kind = _plain(schema.field(name).type)
        if not (_is_text(kind) or types.is_integer(kind) or types.is_boolean(kind)):
            raise DataError(f"{path}: context column {name!r} is {kind}; write texts or whole numbers")
    return names


def has_types(schema: Any, path: Path) -> bool:
    """Return whether a file has the types of clicks. Raises DataError if they are no lists of texts."""
    if TYPES not in schema.names:
        return False
    kind = schema.field(TYPES).type
    inner = _element(kind)
    if inner is not None and _is_text(inner):
        return True
    raise DataError(f"{path}: column {TYPES!r} is {kind}, not lists of texts; write one type for each click")


def type_codes(batch: Any, types: ClickTypes) -> np.ndarray:
    """Return uint8[T]: the codes of the types of a batch's clicks. A session without a list has none.

    Raises DataError unless a list has as many types as there are clicks.
    """
    pa = require("pyarrow", "score")
    counts = pa.compute.list_value_length(batch.column(ITEMS)).to_numpy(zero_copy_only=False)
    lists = batch.column(TYPES)
    lengths = pa.compute.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    missing = lists.is_null().to_numpy(zero_copy_only=False)
    bad = np.flatnonzero((lengths != counts) & ~missing)
    if len(bad):
        session = batch.column(SESSION)[int(bad[0])].as_py()
        raise DataError(
            f"session {session!r} has {lengths[bad[0]]} types for {counts[bad[0]]} clicks; write one for each, or no "
            f"list in {TYPES!r}"
        )
    codes = np.full(int(counts.sum()), NO_TYPE, dtype=np.uint8)
    codes[np.repeat(~missing, counts)] = types.codes(lists.flatten().to_pylist())
    return codes


def context_codes(batch: Any, names: Sequence[str], columns: ContextColumns) -> np.ndarray:
    """Return uint16[B, C]: the codes of a batch's context; no value in a column that is not one of `names`."""
    pa = require("pyarrow", "score")
    context = np.full((len(batch), len(columns.names)), NO_VALUE, dtype=np.uint16)
    for name in names:
        column = columns.names.index(name)
        values = pa.compute.dictionary_encode(batch.column(name).cast(pa.string()))
        codes = [columns.codes({name: text})[column] if text else NO_VALUE for text in values.dictionary.to_pylist()]
        indices = values.indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
        context[:, column] = np.array([*codes, NO_VALUE], dtype=np.uint16)[indices]
    return context


def kind_of(schema: Any) -> str | None:
    """Return the kind of the ids in a schema's lists, 'int' or 'str'; None if all lists are empty."""
    types, kind = require("pyarrow", "score").types, _element(schema.field(ITEMS).type)
    return None if types.is_null(kind) else "int" if types.is_integer(kind) else "str"


def _plain(kind: Any) -> Any:
    """Return the type of the values, for a column of codes that stand for them."""
    return kind.value_type if require("pyarrow", "score").types.is_dictionary(kind) else kind


def _element(kind: Any) -> Any:
    """Return the type of the elements of a column of lists; None for another column."""
    types = require("pyarrow", "score").types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return _plain(kind.value_type) if is_list else None


def _is_text(kind: Any) -> bool:
    """Return whether values are texts, or all missing."""
    types = require("pyarrow", "score").types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _check(path: Path, schema: Any) -> None:
    for name in (SESSION, ITEMS):
        if schema.names.count(name) != 1:
            meant = nearest(name, schema.names)
            raise DataError(
                f"{path} has no column {name!r}, or two of it; its columns are {', '.join(schema.names)}{meant}"
            )
    kind = schema.field(ITEMS).type
    inner = _element(kind)
    if inner is None or not (_is_text(inner) or require("pyarrow", "score").types.is_integer(inner)):
        raise DataError(
            f"{path}: column {ITEMS!r} is {kind}, not lists of texts or integers; write one list per session"
        )


def _refuse_missing(path: Path, lists: Any, first: int) -> None:
    if lists.null_count:
        row = first + int(np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(
            f"{path}: row {row:,} has no list in {ITEMS!r}; write an empty list for a session without clicks"
        )
    if lists.flatten().null_count:
        raise DataError(f"{path}: a list in {ITEMS!r} from row {first:,} on has an empty id; leave such clicks out")


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    pa = require("pyarrow", "score")
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        lines = str(getattr(error, "strerror", None) or error).splitlines()
        raise DataError(f"{path} cannot be read as Parquet ({lines[0]}); restore it or write it again") from None
