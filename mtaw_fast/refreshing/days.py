"""One period of the log: read into a Parquet file of its own, and checked by comparison with those before.

A refused period has no file, so nothing trains on it. Axes: T rows, B sessions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mtaw_fast.data.context import FIRST, OTHER, UNNAMED
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.readers.click_log import ClickLog, read_log
from mtaw_fast.data.readers.dataset_builder import cut_log, without_bots
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.errors import DataError, MtawError, UsageError, require
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click, Forget
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.refreshing.config import DayChecks, LogSource
from mtaw_fast.storage.files import atomic_path

_HOUR_MS = 3_600_000
_COMPARED = 28  # periods that make the usual one
_SKIPPED = "-"  # the type of a row that does not count
_DATES = "%"


@dataclass(frozen=True, slots=True)
class Period:
    """Clicks from `begin` on and before `end`, in Unix milliseconds."""

    begin: int
    end: int

    @property
    def name(self) -> str:
        """The begin, as 2026-12-03, or 2026-12-03T06-00 if periods are shorter than a day."""
        moment = datetime.datetime.fromtimestamp(self.begin // 1000, datetime.UTC)
        return f"{moment:%Y-%m-%d}" if (self.end - self.begin) % 86_400_000 == 0 else f"{moment:%Y-%m-%dT%H-%M}"

    @classmethod
    def newest(cls, now: float, every: float, delay: float) -> Period:
        """Return the last period that had ended `delay` seconds before `now`, in Unix seconds."""
        length = round(every * 1000)
        end = round((now - delay) * 1000) // length * length
        return cls(end - length, end)

    def before(self, count: int) -> Period:
        """Return the period so many before this one."""
        length = self.end - self.begin
        return Period(self.begin - count * length, self.end - count * length)


@dataclass(frozen=True, slots=True)
class DayFacts:
    """What a period's log has.

    clicks, sessions: in the period. hours: of the period with clicks. bots: share of the clicks in sessions of bots.
    busiest: share of the clicks that the busiest item has. repeats: share of clicks that repeat within a second.
    outside: share of the rows that are in the future, or outside the period although the source is this period's.
    known: share of the clicks on items of the period before; None for the first.
    """

    clicks: int
    sessions: int
    hours: int
    bots: float
    busiest: float
    repeats: float
    outside: float
    known: float | None = None


class RefusedLogError(DataError):
    """A period's log that cannot be read. check: which check it fails."""

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(reason)
        self.check = check


def refusals(facts: DayFacts, others: Sequence[DayFacts], limits: DayChecks) -> list[str]:
    """Return the checks that a period's log fails, as 'name: reason'. others: of the periods before."""
    if not facts.clicks:
        return ["empty: no click is in this period"]
    failed = [
        f"{name}: {share:.0%} of the {what}, at most {most:.0%} may be"
        for name, share, most, what in (
            ("clock", facts.outside, limits.outside, "rows are outside the period or in the future"),
            ("bots", facts.bots, limits.bots, "clicks are of bots"),
        )
        if share > most
    ]
    others = others[-_COMPARED:]
    if not others:
        return failed

    def compare(name: str, what: str, value: float, usual: float, least: float, most: float) -> None:
        if not usual * least <= value <= usual * most:
            failed.append(f"{name}: {what} {value:.4g}, usually {usual:.4g}")

    times, endless = limits.times, float("inf")
    clicks = median(other.clicks for other in others)
    compare("short" if facts.clicks < clicks else "long", "clicks", facts.clicks, clicks, 1 / times, times)
    compare("hours", "hours with clicks", facts.hours, median(other.hours for other in others), 0.5, endless)
    lengths = median(other.clicks / max(other.sessions, 1) for other in others)
    compare("sessions", "clicks a session", facts.clicks / max(facts.sessions, 1), lengths, 1 / times, times)
    busiest = max(0.05, median(other.busiest for other in others))
    compare("busiest item", "its share of the clicks", facts.busiest, busiest, 0, times)
    repeats = median(other.repeats for other in others)
    if facts.repeats > repeats + limits.repeats:
        failed.append(f"twice: {facts.repeats:.0%} of the clicks repeat within a second, usually {repeats:.0%}")
    known = [other.known for other in others if other.known is not None]
    if known and facts.known is not None:
        compare("items", "share of clicks on known items", facts.known, median(known), 1 / times, endless)
    return failed


class PeriodReader:
    """Reads the periods of a log. A source that is not by date is read once, for all of them.

    now: Unix seconds. forgotten: `forgotten_in` of a learning log that was read.
    """

    def __init__(self, source: LogSource, now: float) -> None:
        self._source, self._now = source, now
        self._whole: ClickLog | None = None
        self.forgotten: dict[str, int] = {}

    def read(self, period: Period, path: Path, item_ids: str, earlier: Path | None) -> tuple[DayFacts, str]:
        """Write a period's rows to a Parquet file; return the facts, and the kind of its item ids, 'int' or 'str'.

        item_ids: the kind that they must have; 'auto': what the log suggests. earlier: the file of the period before.
        Raises RefusedLogError if there is no log or it cannot be read.
        """
        by_date = _DATES in self._source.source
        log = self._whole
        if log is None:
            log = _rows_of(self._source, period, item_ids, self.forgotten)
            self._whole = None if by_date else log
        inside = (log.time >= period.begin) & (log.time < period.end)
        wrong = ~inside if by_date else log.time > self._now * 1000 + _HOUR_MS
        rows = log.select(inside)
        kind = "int" if log.item_ids and isinstance(log.item_ids[0], int) else "str"
        facts = _facts_of(rows, self._source.options, float(wrong.mean()) if len(wrong) else 0.0)
        if facts.clicks:
            frame = _frame_of(rows, self._source.options)
            if earlier is not None:
                facts = dataclasses.replace(facts, known=_known_share(frame, earlier))
            _write(frame, path)
        return facts, kind


def _write(frame: Any, path: Path) -> None:
    pl = require("polars", "train")
    try:
        with atomic_path(path) as temporary:
            frame.write_parquet(temporary)
    except pl.exceptions.PolarsError as error:  # what it makes of a full disk
        raise MtawError(f"cannot write {path}: {' '.join(str(error).split())}; free some space") from None


def day_options(options: ClickOptions, test_days: float) -> ClickOptions:
    """Return how to read the files that `PeriodReader` writes."""
    return dataclasses.replace(
        options, session="session_id", user=None if options.user is None else "user_id", item="item_id",
        time="timestamp", time_unit="ms", type=None if options.type is None else "type", separator=None,
        bad_rows="refuse", test_days=test_days,
    )  # fmt: skip


def remove_forgotten(path: Path, forgotten: Mapping[str, int]) -> None:
    """Remove sessions' clicks from a period's file, up to when each asked to be forgotten."""
    pl = require("polars", "train")
    frame = pl.read_parquet(path)
    asked = frame[:, 0].replace_strict(forgotten, default=None, return_dtype=pl.Int64)
    kept = frame.filter(asked.is_null() | (frame["timestamp"] > asked))
    if len(kept) < len(frame):
        _write(kept, path)


def _rows_of(source: LogSource, period: Period, item_ids: str, forgotten: dict[str, int]) -> ClickLog:
    options = source.options
    place: Any = source.source
    if source.learn:
        place = _learned_clicks(source.learn, options, forgotten)
    elif _DATES in place:
        place = datetime.datetime.fromtimestamp(period.begin // 1000, datetime.UTC).strftime(place)
    try:
        parts = part_files(place, options.columns)
    except DataError as error:
        raise RefusedLogError("missing", str(error)) from None
    try:
        return read_log(parts, options, item_ids=item_ids, with_owner_ids=True)
    except DataError as error:
        raise RefusedLogError("unreadable", str(error)) from None


def forgotten_in(learn: str) -> dict[str, int]:
    """Return when each session asked to be forgotten, in Unix milliseconds, in a learning log."""
    return {event.session: event.time for event in _events_of(learn) if isinstance(event, Forget)}


def _learned_clicks(learn: str, options: ClickOptions, forgotten: dict[str, int]) -> Any:
    """Return the clicks of a learning log as a frame, without those of sessions that are forgotten; collect these."""
    pl = require("polars", "train")
    names = (options.owner, options.item, options.time, *([] if options.type is None else [options.type]))
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for event in _events_of(learn):
        if isinstance(event, Forget):
            rows.pop(event.session, None)
            forgotten[event.session] = event.time
        elif isinstance(event, Click) and not event.refused:
            known = [(event.context or {}).get(column) for column in options.context]
            row = (event.session, event.item, event.time, *([] if options.type is None else [event.type or ""]))
            rows.setdefault(event.session, []).append((*row, *known))
    flat = [row for session in rows.values() for row in session]
    if not flat:
        raise RefusedLogError("empty", "the learning log has no click")
    return pl.DataFrame(flat, schema=[*names, *options.context], orient="row", infer_schema_length=None)


def _events_of(learn: str) -> Iterator[Any]:
    stream = learn if "://" in learn else None
    if stream is None and not Path(learn).is_dir():
        raise UsageError(f"refresh config: log.learn {learn} does not exist; name the folder of a service")
    with contextlib.closing(open_log(LearningSettings(Path(learn), stream))) as log:
        position = START
        while entries := log.read(position):
            for entry in entries:
                yield entry.event
            position = entries[-1].position


def _facts_of(log: ClickLog, options: ClickOptions, outside: float) -> DayFacts:
    report = LogReport()
    raw = cut_log(log, options, report)
    without_bots(raw, options.bots, report)
    items = log.item[log.is_click]
    clicks = max(report.clicks, 1)
    return DayFacts(
        clicks=report.clicks, sessions=report.sessions, hours=len(np.unique(log.time[log.is_click] // _HOUR_MS)),
        bots=(report.long_clicks + report.burst_clicks) / clicks,
        busiest=float(np.bincount(items).max() / clicks) if len(items) else 0.0, repeats=report.near_repeats / clicks,
        outside=outside,
    )  # fmt: skip


def _frame_of(log: ClickLog, options: ClickOptions) -> Any:
    """Return the rows in the columns of `day_options`. Session ids are texts, so that all periods agree."""
    pl = require("polars", "train")
    owner = pl.Series(log.owner) if not log.owner_ids else pl.Series(log.owner_ids)[log.owner]
    columns: dict[str, Any] = {
        "session_id" if options.user is None else "user_id": owner.cast(pl.String),
        "item_id": pl.Series(log.item_ids)[log.item].zip_with(pl.Series(log.is_click), pl.Series([None])),
        "timestamp": log.time,
    }
    if log.type is not None:
        names = pl.Series([*log.type_names, _SKIPPED])
        columns["type"] = names[np.minimum(log.type, len(log.type_names)).astype(np.int64)]
    if log.context is not None and log.context_columns is not None:
        for number, (name, values) in enumerate(
            zip(log.context_columns.names, log.context_columns.values, strict=True)
        ):
            texts = np.full(FIRST + len(values), None, dtype=object)
            texts[OTHER], texts[FIRST:] = UNNAMED, values
            columns[name] = pl.Series(texts.tolist(), dtype=pl.String)[log.context[:, number].astype(np.int64)]
    return pl.DataFrame(columns)


def _known_share(frame: Any, earlier: Path) -> float:
    pl = require("polars", "train")
    items = pl.read_parquet(earlier, columns=["item_id"])["item_id"].unique()
    return float(frame["item_id"].is_in(items.implode()).mean() or 0.0)
