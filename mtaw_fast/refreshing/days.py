"""One period of the log: read into a Parquet file of its own, and checked by comparison with those before.

A refused period has no file, so nothing trains on it. Axes: T rows, B sessions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.readers.click_log import ClickLog, read_log
from mtaw_fast.data.readers.dataset_builder import cut_log, without_bots
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.errors import DataError, EmptyLogError, UsageError, require
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click, Forget
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.refreshing.config import DayChecks, LogSource
from mtaw_fast.refreshing.day_files import write_day

_HOUR_MS = 3_600_000
_COMPARED = 28  # periods that make the usual one
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

    def compare(name: str, what: str, value: float, usual: float, least: float, most: float, form: str) -> None:
        if not usual * least <= value <= usual * most:
            failed.append(f"{name}: {what} {value:{form}}, usually {usual:{form}}")

    times, endless = limits.times, float("inf")
    clicks = median(other.clicks for other in others)
    compare("short" if facts.clicks < clicks else "long", "clicks", facts.clicks, clicks, 1 / times, times, ",.0f")
    hours = median(other.hours for other in others)
    compare("hours", "hours with clicks", facts.hours, hours, 0.5, endless, ".0f")
    lengths = median(other.clicks / max(other.sessions, 1) for other in others)
    compare("sessions", "clicks a session", facts.clicks / max(facts.sessions, 1), lengths, 1 / times, times, ",.1f")
    busiest = max(0.05, median(other.busiest for other in others))
    compare("busiest item", "its share of the clicks", facts.busiest, busiest, 0, times, ".1%")
    repeats = median(other.repeats for other in others)
    if facts.repeats > repeats + limits.repeats:
        failed.append(f"twice: {facts.repeats:.0%} of the clicks repeat within a second, usually {repeats:.0%}")
    known = [other.known for other in others if other.known is not None]
    if known and facts.known is not None:
        compare("items", "share of clicks on known items", facts.known, median(known), 1 / times, endless, ".0%")
    return failed


class PeriodReader:
    """Reads the periods of a log. A source that is not by date is read once, for all of them.

    now: Unix seconds. Rows up to the clock's time are not in the future, even if `now` is before it. forgotten:
    `forgotten_in` of a learning log that was read.
    """

    def __init__(self, source: LogSource, now: float) -> None:
        self._source, self._now = source, max(now, time.time())
        self._whole: ClickLog | None = None
        self.forgotten: dict[str, int] = {}

    def read(self, period: Period, path: Path, item_ids: str, earlier: Path | None) -> tuple[DayFacts, str]:
        """Write a period's rows to a Parquet file; return the facts, and the kind of its item ids, 'int' or 'str'.

        item_ids: the kind that they must have; 'auto': what the log suggests. earlier: the file of the period before.
        Raises RefusedLogError if there is no log or it cannot be read.
        """
        by_date = is_by_date(self._source)
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
            known = write_day(rows, path, earlier)
            facts = dataclasses.replace(facts, known=known)
        return facts, kind


def _rows_of(source: LogSource, period: Period, item_ids: str, forgotten: dict[str, int]) -> ClickLog:
    options = source.options
    place: Any = source.source
    if is_by_date(source):
        place = datetime.datetime.fromtimestamp(period.begin // 1000, datetime.UTC).strftime(place)
    check = "missing"
    try:
        if source.learn:
            place = _learned_clicks(source.learn, options, forgotten)
        parts = part_files(place, options.columns)
        check = "unreadable"
        return read_log(parts, options, item_ids=item_ids, with_owner_ids=True)
    except DataError as error:
        raise RefusedLogError("empty" if isinstance(error, EmptyLogError) else check, str(error)) from None


def is_by_date(source: LogSource) -> bool:
    """Whether each period has a log of its own."""
    return _DATES in source.source


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
        raise EmptyLogError(f"the learning log {learn} has no click")
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
