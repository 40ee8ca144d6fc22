"""The file of a period: a Parquet file of the rows, whatever the columns of the log are called.

Its columns are `:owner` (text; the session, or the user of a log whose sessions are cut by inactivity), `:item` (none
in a row that does not count), `:time` (int64, Unix milliseconds), `:type` if the log has types, and the context's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.context import FIRST, OTHER, UNNAMED
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.readers.click_log import ClickLog
from mtaw_fast.errors import MtawError, require
from mtaw_fast.storage.files import atomic_path

_OWNER, _ITEM, _TIME, _TYPE = ":owner", ":item", ":time", ":type"
_SKIPPED = "-"  # the type of a row that does not count


def write_day(log: ClickLog, path: Path, earlier: Path | None) -> float | None:
    """Write the rows of a log as the file of a period. earlier: the file of the period before.

    Returns the share of the rows whose item the earlier period has; None without one.
    """
    frame, known = _frame_of(log), None
    if earlier is not None:
        pl = require("polars", "train")
        items = pl.read_parquet(earlier, columns=[_ITEM])[_ITEM].unique()
        known = float(frame[_ITEM].is_in(items.implode()).mean() or 0.0)
    _write(frame, path)
    return known


def rows_of(files: Iterable[Path]) -> Any:
    """Return the rows of periods' files, in their order, as a lazy frame."""
    pl = require("polars", "train")
    return pl.concat([pl.scan_parquet(file, glob=False) for file in files], how="vertical_relaxed")


def as_logged(rows: Any, options: ClickOptions | Mapping[str, Any]) -> Any:
    """Return rows as a lazy frame that these options, or the `reader` of a data set, read as their log."""
    pl = require("polars", "train")
    values = options if isinstance(options, Mapping) else dataclasses.asdict(options)
    names = {
        _OWNER: values["session"] if values.get("user") is None else values["user"], _ITEM: values["item"],
        _TIME: values["time"], _TYPE: values.get("type"),
    }  # fmt: skip
    present = rows.collect_schema().names()
    # A column of moments is read in the same way with every `time_unit`.
    moments = rows.with_columns(pl.col(_TIME).cast(pl.Datetime("ms", "UTC")))
    return moments.rename({name: new for name, new in names.items() if name in present and new is not None})


def read_otherwise(reader: Mapping[str, Any], options: ClickOptions) -> list[str]:
    """Return the options that make other sessions or clicks of a log than the `reader` of a data set does."""
    mine = dataclasses.asdict(options)
    names = [name for name in ("user", "type") if (reader.get(name) is None) != (mine[name] is None)]
    names += [name for name in ("types", "context") if tuple(reader.get(name) or ()) != mine[name]]
    names += [name for name in ("merge_types", "dedupe") if (reader.get(name) or None) != (mine[name] or None)]
    if options.user is not None and "user" not in names and reader.get("gap") != mine["gap"]:
        names.append("gap")
    return names


def of_sessions(rows: Any, gap: float | None, choose: Any) -> Any:
    """Return the rows of some sessions.

    gap: seconds of inactivity that end a session; None: an owner is a session. choose: the condition, a function of
    the expressions of a session's first and last moment, in Unix milliseconds.
    """
    pl = require("polars", "train")
    if gap is None:
        session = [_OWNER]
    else:
        pauses = pl.col(_TIME).diff() > round(gap * 1000)
        rows = rows.with_columns(pauses.fill_null(False).cum_sum().over(_OWNER, order_by=_TIME).alias(":session"))
        session = [_OWNER, ":session"]
    time = pl.col(_TIME)
    chosen = rows.filter(choose(time.min().over(session), time.max().over(session)))
    return chosen if gap is None else chosen.drop(":session")


def since(rows: Any, begin: int) -> Any:
    """Return the rows from a moment on, in Unix milliseconds."""
    pl = require("polars", "train")
    return rows.filter(pl.col(_TIME) >= begin)


def times_of(rows: Any) -> np.ndarray:
    """Return the times of the rows in order: int64[T], Unix milliseconds."""
    return np.sort(rows.select(_TIME).collect()[_TIME].to_numpy())


def remove_forgotten(path: Path, forgotten: Mapping[str, int]) -> None:
    """Remove sessions' clicks from a period's file, up to when each asked to be forgotten."""
    pl = require("polars", "train")
    frame = pl.read_parquet(path)
    asked = frame[_OWNER].replace_strict(forgotten, default=None, return_dtype=pl.Int64)
    kept = frame.filter(asked.is_null() | (frame[_TIME] > asked))
    if len(kept) < len(frame):
        _write(kept, path)


def _write(frame: Any, path: Path) -> None:
    pl = require("polars", "train")
    try:
        with atomic_path(path) as temporary:
            frame.write_parquet(temporary)
    except pl.exceptions.PolarsError as error:  # what it makes of a full disk
        raise MtawError(f"cannot write {path}: {' '.join(str(error).split())}; free some space") from None


def _frame_of(log: ClickLog) -> Any:
    """Return the rows in the columns of a period's file. Owners' ids are texts, so that all periods agree."""
    pl = require("polars", "train")
    owner = pl.Series(log.owner) if not log.owner_ids else pl.Series(log.owner_ids)[log.owner]
    columns: dict[str, Any] = {
        _OWNER: owner.cast(pl.String),
        _ITEM: pl.Series(log.item_ids)[log.item].zip_with(pl.Series(log.is_click), pl.Series([None])),
        _TIME: log.time,
    }
    if log.type is not None:
        names = pl.Series([*log.type_names, _SKIPPED])
        columns[_TYPE] = names[np.minimum(log.type, len(log.type_names)).astype(np.int64)]
    if log.context is not None and log.context_columns is not None:
        for number, (name, values) in enumerate(
            zip(log.context_columns.names, log.context_columns.values, strict=True)
        ):
            texts = np.full(FIRST + len(values), None, dtype=object)
            texts[OTHER], texts[FIRST:] = UNNAMED, values
            columns[name] = pl.Series(texts.tolist(), dtype=pl.String)[log.context[:, number].astype(np.int64)]
    return pl.DataFrame(columns)
