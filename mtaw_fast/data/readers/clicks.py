"""Generic click logs in CSV, Parquet or JSON lines: a file, a folder of parts, a pattern, a URL or a frame."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mtaw_fast.data.bots import LONGEST, BotRule
from mtaw_fast.data.context import MAX_COLUMNS
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.moments import moment_of
from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.click_log import ClickLog, Columns, read_log
from mtaw_fast.data.readers.dataset_builder import (
    Rules,
    by_inactivity,
    by_owner,
    filter_sessions,
    inactivity_cuts,
    merge_types,
    to_dataset,
)
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.data.readers.stream import ClickStream, by_gap, by_owner_ids
from mtaw_fast.errors import DataError, UsageError

FORMAT = "clicks"
_DAY_MS = 86_400_000
# The options that say how to read a log; the others say which clicks are kept.
_READING = (
    "session", "item", "time", "user", "gap", "type", "types", "time_unit", "separator", "bad_rows", "dedupe",
    "context", "merge_types",
)  # fmt: skip
_LISTS = ("types", "context")  # tuples, which a manifest keeps as lists


@dataclass(frozen=True, slots=True)
class ClickOptions:
    """How to read a click log. The defaults suit a log with columns session_id, item_id, timestamp.

    Columns
        session: column of the session id; not read if `user` is given.
        user: column of the user id; a user's clicks are cut into sessions at gaps of more than `gap` seconds.
        item, time: columns of the item id and the time. type: column of the event type, which the data set keeps.
        types: count only rows of these types, such as ('view',); the other rows still bridge gaps, as in the published
        scripts. Empty: every row is a click.
        time_unit: unit of numeric times since 1970: 's', 'ms', 'us' or 'ns'; 'auto' decides by their size. ISO-8601
        texts need none; they are UTC unless they name an offset or a zone.
        context: columns of what is known of the visit at a click, such as ('referrer', 'region'): text or whole
        numbers, at most 8 columns. The 1,000 most frequent values of a column are told apart (`data.context`).
        separator: column separator of CSV; None is a tab for .tsv and .tab, else a comma.
    Rows
        bad_rows: 'refuse' a log with an unreadable row, or 'skip' such rows (the data set has their number).
        dedupe: remove a click if the same session (or user) clicked the same item with the same type at most this many
        seconds before; 0: at the same time; None: remove none.
        since, until: keep clicks from `since` on and before `until`: ISO-8601 text (UTC unless it names an offset) or
        Unix milliseconds; None: no bound.
        merge_types: make one click of events of several types on one item in a row, such as view, cart and purchase. It
        has the time of the first event and the type of the last one, or with `types` the last of their types in that
        order.
    Filters
        min_session: fewest clicks of a session, before and after the support filter. max_session: most clicks after
        it; longer sessions, mostly bots, are left out; None: no limit. min_support: fewest clicks of an item in the
        sessions of at least min_session clicks. support_rounds: 'once', or 'until-stable' to repeat both filters until
        nothing changes.
    Split
        test_days: sessions that end within this many days before the last session's end are the test split; 0: no test
        split. A session that ends exactly at the boundary is training. min_prefix: shortest prefix that is a sample.
    """

    session: str = "session_id"
    item: str = "item_id"
    time: str = "timestamp"
    user: str | None = None
    gap: float = 1800.0
    type: str | None = None
    types: tuple[str, ...] = ()
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    separator: str | None = None
    bad_rows: Literal["refuse", "skip"] = "refuse"
    dedupe: float | None = None
    min_session: int = 2
    max_session: int | None = LONGEST
    min_support: int = 5
    support_rounds: Literal["once", "until-stable"] = "once"
    test_days: float = 7.0
    min_prefix: int = 1
    context: tuple[str, ...] = ()
    since: str | int | None = None
    until: str | int | None = None
    merge_types: bool = False

    def __post_init__(self) -> None:
        checks = {
            "gap": math.isfinite(self.gap) and self.gap > 0,
            "time_unit": self.time_unit in times.UNITS,
            "separator": self.separator is None or (len(self.separator) == 1 and self.separator.isascii()),
            "bad_rows": self.bad_rows in ("refuse", "skip"),
            "dedupe": self.dedupe is None or (math.isfinite(self.dedupe) and self.dedupe >= 0),
            "min_prefix": self.min_prefix >= 1,
            "min_support": self.min_support >= 1,
            "support_rounds": self.support_rounds in ("once", "until-stable"),
            "test_days": math.isfinite(self.test_days) and 0 <= self.test_days < 100_000,
        }
        for name, ok in checks.items():
            if not ok:
                raise UsageError(f"click option {name}={getattr(self, name)!r} is out of range")
        for name in _LISTS:
            if isinstance(value := getattr(self, name), str):
                raise UsageError(
                    f"click option {name} must be a list, not {value!r}; write [{value!r}] for a single one"
                )
        if self.min_session < self.min_prefix + 1:
            raise UsageError(
                f"click option min_session={self.min_session}: a session needs min_prefix + 1 = {self.min_prefix + 1} "
                "clicks to hold a sample; raise it"
            )
        if self.max_session is not None and self.max_session < self.min_session:
            raise UsageError(f"click option max_session={self.max_session} is below min_session={self.min_session}")
        start, end = self.window_ms
        if start is not None and end is not None and start >= end:
            raise UsageError(f"click option since={self.since!r} is not before until={self.until!r}")
        if self.merge_types and self.type is None:
            raise UsageError("click option merge_types needs type: the column that holds the types")
        if self.types and self.type is None:
            raise UsageError("click option types needs type: the column that holds them")
        if len(self.context) > MAX_COLUMNS or len(set(self.context)) != len(self.context):
            raise UsageError(f"click option context={self.context!r}: name at most {MAX_COLUMNS} columns, each once")
        if any(not name or not name.isprintable() for name in self.context):
            raise UsageError(f"click option context={self.context!r}: a column's name is empty or has odd characters")

    @property
    def gap_ms(self) -> int:
        """`gap` in milliseconds."""
        return round(self.gap * 1000)

    @property
    def window_ms(self) -> tuple[int | None, int | None]:
        """`since` and `until` in milliseconds since 1970."""
        return moment_of("since", self.since), moment_of("until", self.until)

    @property
    def dedupe_ms(self) -> int | None:
        """`dedupe` in milliseconds."""
        return None if self.dedupe is None else round(self.dedupe * 1000)


def read(source: Any, options: ClickOptions | None = None, name: str | None = None) -> Dataset:
    """Read a click log of any size. It is streamed, with under 100 bytes per row plus the distinct texts in memory
    (`bench.prepare` measures it).

    source: a CSV, Parquet or JSON lines file, a folder of such parts (read in order of their names), a glob pattern, a
    URL (s3://, gs://, az://; a pattern too), or a frame of Polars, pandas or Arrow.
    Rows may be in any order; clicks of equal time stay in file order. Sessions are in order of their last click, as in
    the published scripts, ties in order of their first row (with `user`: of user and time). The end of a session is
    that of all its clicks, before items of low support are left out.

    Raises DataError, with file, column, row and value, on anything that cannot be read, and UsageError on options that
    do not fit.
    """
    options = options or ClickOptions()
    report = LogReport()
    log = _log(source, options)
    n_rows = len(log)
    log = report.within(log, *options.window_ms)
    if not log.has_clicks:
        raise nothing_within(source, options)
    log = report.read(log, options.dedupe_ms)
    raw = by_owner(log) if options.user is None else by_inactivity(log, options.gap_ms)
    if options.merge_types:
        raw, report.merged_clicks = merge_types(raw, bool(options.types))
    report.times(raw.times)
    preparation, reader = record_of(options, n_rows, len(raw))
    log, rules = log.without_rows(), rules_of(options)
    filtered = filter_sessions(raw, rules, place_of(source), report)
    return to_dataset(filtered, log, rules, name or default_name(source), preparation, reader, report)


def stream(source: Any, reader: Mapping[str, Any]) -> ClickStream:
    """Read the clicks of a log in time order, with sessions as in `read`; see `readers.read_stream`."""
    stored = {name: reader[name] for name in _READING if name in reader}
    options = ClickOptions(**{**stored, **{name: tuple(stored.get(name, ())) for name in _LISTS}})
    log = _log(
        source,
        options,
        item_ids=reader.get("item_ids", "auto"),
        type_names=reader.get("type_names", ()),
        with_owner_ids=True,
    )
    if options.dedupe is not None:
        log = LogReport().read(log, options.dedupe_ms)
    clicks = by_owner_ids(log) if options.user is None else by_gap(log, *inactivity_cuts(log, options.gap_ms))
    return clicks.with_merged_types(bool(options.types)) if options.merge_types else clicks


def _log(source: Any, options: ClickOptions, **read_options: Any) -> ClickLog:
    columns = columns_of(options)
    log = read_log(part_files(source, columns.names), columns, **read_options)
    if not log.has_clicks:
        raise no_click(source, options)
    return log


def columns_of(options: ClickOptions) -> Columns:
    """Return the columns that the options name."""
    return Columns(
        owner=options.session if options.user is None else options.user,
        item=options.item,
        time=options.time,
        type=options.type,
        types=options.types,
        time_unit=options.time_unit,
        separator=options.separator,
        bad_rows=options.bad_rows,
        context=options.context,
    )


def rules_of(options: ClickOptions) -> Rules:
    """Return the rules of the filters and the split."""
    return Rules(
        min_session=options.min_session,
        max_session=options.max_session,
        min_support=options.min_support,
        until_stable=options.support_rounds == "until-stable",
        test_ms=round(options.test_days * _DAY_MS),
        drop_at_boundary=False,
        min_prefix=options.min_prefix,
        bots=bot_rule({"format": FORMAT, "max_session": options.max_session}),
    )


def bot_rule(reader: Mapping[str, Any], **burst: int) -> BotRule | None:
    """Return the rule for bots in a log that `reader` (`Dataset.reader`) reads; None if its format has no bots.

    burst: `burst_clicks` and `burst_ms` of the rule.
    """
    return BotRule(reader.get("max_session", LONGEST), **burst) if reader.get("format") == FORMAT else None


def record_of(options: ClickOptions, rows: int, sessions: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `Dataset.preparation` and `Dataset.reader`. rows: readable rows; sessions: their number before filters."""
    values = dataclasses.asdict(options)
    lists = {name: list(values[name]) for name in _LISTS}
    preparation = {"reader": FORMAT, "rows": rows, "sessions": sessions, "options": values}
    reading = {name: values[name] for name in (*_READING, "max_session")}
    return preparation, {"format": FORMAT, **reading, **lists}


def no_click(source: Any, options: ClickOptions) -> DataError:
    """Return the error for a log whose rows all have types that do not count."""
    return DataError(f"{place_of(source)}: column {options.type!r} is never {' or '.join(map(repr, options.types))}")


def nothing_within(source: Any, options: ClickOptions) -> DataError:
    """Return the error for a log without a click between `since` and `until`."""
    bounds = [
        f"{name} {value}" for name, value in (("since", options.since), ("until", options.until)) if value is not None
    ]
    return DataError(f"{place_of(source)}: no click is within {' and '.join(bounds)}; check the bounds and --time-unit")


def place_of(source: Any) -> str:
    """Return the name of the source for messages."""
    return str(source) if isinstance(source, (str, os.PathLike)) else "the frame"


def default_name(source: Any) -> str:
    """Return the file's name without endings, or the folder's name for a pattern."""
    if not isinstance(source, (str, os.PathLike)):
        return FORMAT
    source = Path(source)
    if any(sign in source.name for sign in "*?["):
        source = source.parent
    return source.name.split(".")[0] or "clicks"
