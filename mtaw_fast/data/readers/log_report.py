"""The report on a log: counts of what it has and what was left out, and warnings. The data set's manifest keeps it.

Axes: T rows, B sessions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.data.bots import BURST_CLICKS, BURST_MS
from mtaw_fast.data.readers.click_log import NO_CLICK, ClickLog

_DAY_MS = 86_400_000
_SECOND_MS = 1000
_WRONG_TIMES = "check --time, the column of times, and --time-unit"
_FIRST_DAY = 7305  # 1990-01-01, before any log of clicks
_NEVER = np.iinfo(np.int64).max
# From these on, a warning is given.
_REPEATED = 0.1  # share of the clicks that repeat within a second: events may be logged twice
_LONELY = 0.001  # clicks that are at most this share of all ..
_EMPTY_DAYS = 30  # .. and this many days away from the others have wrong times
_BOT_CLICKS = 1000  # clicks of a session
_BOT_SHARE = 0.05  # share of all clicks in long sessions that are left out
_UNSEEN = 0.2  # share of the test clicks on items that training never saw
_FEW_SESSIONS = 1000  # training sessions; fewer give a warning
_FEW_SAMPLES = 100  # test samples, likewise


@dataclass(slots=True)
class LogReport:
    """The counts of one `prepare`, and warnings."""

    rows: int = 0  # of the log, with those that are left out
    bad_rows: int = 0  # that could not be read
    clicks: int = 0  # rows that count as clicks, without those that `dedupe` removed
    # Clicks that repeat one of the same session (or user), item and type: at the same time, within a second, and those
    # that `dedupe` removed.
    repeats: int = 0
    near_repeats: int = 0
    dropped_repeats: int = 0
    sessions: int = 0
    # Sessions left out with too few clicks, or too few without rare items, or too many of the others, or for clicking
    # faster than people do (`data.bots`), and the clicks of the longest session.
    short_sessions: int = 0
    rare_sessions: int = 0
    long_sessions: int = 0
    longest: int = 0
    long_clicks: int = 0
    burst_sessions: int = 0
    burst_clicks: int = 0
    items: int = 0  # distinct clicked ones
    rare_items: int = 0  # below the support
    type_clicks: dict[str, int] = field(default_factory=dict)  # clicks by type; empty if the log has no types
    # Clicks by day ('2024-05-01', UTC), without empty days; empty if the log has no real times.
    days: dict[str, int] = field(default_factory=dict)
    test_clicks: int = 0
    unseen_clicks: int = 0  # test clicks on items that training never saw
    missed_targets: int = 0  # unseen clicks that would be targets of samples
    left_out_rows: int = 0  # whose type does not count as a click
    outside_rows: int = 0  # clicks before `since` or from `until` on
    merged_clicks: int = 0  # that `merge_types` merged into one before them
    warnings: list[str] = field(default_factory=list)  # what looks wrong, one line each

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def unseen_share(self) -> float:
        """The share of test clicks on items that training never saw; 0 without a test split."""
        return self.unseen_clicks / self.test_clicks if self.test_clicks else 0.0

    def within(self, log: ClickLog, since: int | None, until: int | None) -> ClickLog:
        """Return the rows from `since` on and before `until` (milliseconds, None: no bound); count the other clicks."""
        if since is None and until is None:
            return log
        inside = np.ones(len(log), dtype=bool)
        if since is not None:
            inside &= log.time >= since
        if until is not None:
            inside &= log.time < until
        self.outside_rows = int(np.count_nonzero(~inside & log.is_click))
        return log.select(inside)

    def read(self, log: ClickLog, dedupe_ms: int | None) -> ClickLog:
        """Count the rows of a log; return the log without clicks that repeat another one within `dedupe_ms`."""
        self.bad_rows, self.left_out_rows = log.bad_rows, log.left_out
        self.rows = int(np.count_nonzero(log.is_click)) + self.bad_rows + self.left_out_rows + self.outside_rows
        gaps = _since_same_click(log)
        self.repeats = int(np.count_nonzero(gaps == 0))
        self.near_repeats = int(np.count_nonzero(gaps <= _SECOND_MS))
        if dedupe_ms is not None:
            kept = gaps > dedupe_ms
            self.dropped_repeats = len(kept) - int(np.count_nonzero(kept))
            log = log.select(kept)
        self.clicks = int(np.count_nonzero(log.is_click))
        if log.type is not None:
            counts = np.bincount(log.type[log.is_click], minlength=len(log.type_names))
            self.type_clicks = dict(zip(log.type_names, counts.tolist(), strict=True))
        return log

    def count_short(self, kept: int) -> None:
        """Count the sessions that were too short before any item was left out. kept: how many are not left out."""
        others = self.rare_sessions + self.long_sessions + self.burst_sessions
        self.short_sessions = self.sessions - kept - others

    def add(self, other: LogReport) -> None:
        """Add the counts of a part of the log that shares no session with the others, except distinct items (they do
        not add up) and warnings (they need the whole log)."""
        longest = max(self.longest, other.longest)
        for name, value in other.as_dict().items():
            if isinstance(value, int) and name != "items":
                setattr(self, name, getattr(self, name) + value)
        self.longest = longest
        self.type_clicks = _sum(self.type_clicks, other.type_clicks)
        self.days = dict(sorted(_sum(self.days, other.days).items(), key=lambda pair: np.datetime64(pair[0])))

    def times(self, times: np.ndarray) -> None:
        """Count clicks by day. times: int64[T] in ms."""
        days, counts = np.unique(times // _DAY_MS, return_counts=True)
        names = np.datetime_as_string(days.astype("datetime64[D]"))
        self.days = dict(zip(names.tolist(), counts.tolist(), strict=True))

    def judge(self, max_session: int | None, train_sessions: int, train_samples: int, test_samples: int) -> None:
        """Set the warnings. max_session: most clicks of a session; the other arguments count the data set."""
        warnings = [
            *self._absent_types(),
            *self._odd_times(test_samples),
            *self._bots(max_session),
            *self._twice(),
            *self._too_few(train_sessions, train_samples, test_samples),
        ]
        if self.unseen_share >= _UNSEEN:
            warnings.append(
                f"{self.unseen_share:.0%} of the test clicks are on items that training never saw, and no model can "
                "rank them: evaluate with --unseen misses to count them, and serve with --learn to add new items at "
                "once"
            )
        self.warnings = warnings

    def _absent_types(self) -> list[str]:
        absent = [name for name, count in self.type_clicks.items() if not count]
        if not absent:
            return []
        known = ", ".join(repr(name) for name, count in self.type_clicks.items() if count)
        return [f"no click has the type {' or '.join(map(repr, absent))} (there are {known}): check --types"]

    def _odd_times(self, test_samples: int) -> list[str]:
        if not self.days:
            return []
        days = np.array(list(self.days), dtype="datetime64[D]").astype(np.int64)
        counts = np.array(list(self.days.values()), dtype=np.int64)
        warnings = []
        future = days > int(time.time() * 1000) // _DAY_MS + 1
        if future.any():
            warnings.append(
                f"{_counted(int(counts[future].sum()), 'click')} from {self._day(days, future.argmax())} on are in the "
                f"future: {_WRONG_TIMES if future.all() else 'fix or remove these rows'}"
            )
        cumulative, total = np.cumsum(counts), int(counts.sum())
        old = int(np.searchsorted(days, _FIRST_DAY))
        if old and cumulative[old - 1] > _LONELY * total:
            warnings.append(
                f"{_counted(int(cumulative[old - 1]), 'click')} from {self._day(days, 0)} to "
                f"{self._day(days, old - 1)} are before 1990: {_WRONG_TIMES}"
            )
        for index in np.flatnonzero(np.diff(days) > _EMPTY_DAYS).tolist():
            late, early = total - int(cumulative[index]), int(cumulative[index])
            gap = int(days[index + 1] - days[index]) - 1
            if late <= max(1, _LONELY * total):
                warnings.append(
                    f"{_counted(late, 'click')} from {self._day(days, index + 1)} on {_are(late)} {gap:,} days after "
                    "all others. The test days are counted back from the last click, so the test split has "
                    f"{_counted(test_samples, 'sample')}: remove these rows"
                )
            elif early <= max(1, _LONELY * total):
                warnings.append(
                    f"{_counted(early, 'click')} up to {self._day(days, index)} {_are(early)} {gap:,} days before all "
                    "others: remove these rows"
                )
        return warnings

    def _day(self, days: np.ndarray, index: Any) -> str:
        return str(days[int(index)].astype("datetime64[D]"))

    def _bots(self, max_session: int | None) -> list[str]:
        warnings = []
        if self.burst_clicks / max(self.clicks, 1) >= _BOT_SHARE:
            warnings.append(
                f"{_counted(self.burst_sessions, 'session')} with more than {BURST_CLICKS} clicks in "
                f"{BURST_MS // 1000} s had {self.burst_clicks / self.clicks:.0%} of all clicks and are left out (bots)"
            )
        share = self.long_clicks / max(self.clicks, 1)
        if max_session is not None and share >= _BOT_SHARE:
            return [
                *warnings,
                f"{_counted(self.long_sessions, 'session')} of more than {max_session:,} clicks (the longest "
                f"{self.longest:,}) had {share:.0%} of all clicks and are left out (bots?): --max-session N keeps "
                "sessions of up to N clicks",
            ]
        if max_session is None and self.longest > _BOT_CLICKS:
            return [
                *warnings,
                f"the longest session has {self.longest:,} clicks (a bot?), and training uses all of them: "
                "--max-session N leaves longer sessions out",
            ]
        return warnings

    def _twice(self) -> list[str]:
        share = self.near_repeats / max(self.clicks + self.dropped_repeats, 1)
        if share < _REPEATED or self.dropped_repeats >= self.near_repeats:
            return []
        return [
            f"{share:.0%} of the clicks repeat an item of the same session within a second, {self.repeats:,} of them "
            "at the same time (events logged twice?). Repeats are easy to predict and raise the metrics: --dedupe 1 "
            "counts such clicks once"
        ]

    def _too_few(self, train_sessions: int, train_samples: int, test_samples: int) -> list[str]:
        warnings = []
        if train_sessions < _FEW_SESSIONS:
            warnings.append(
                f"{_counted(train_sessions, 'training session')} {_are(train_sessions)} too few: a useful model needs "
                f"{_FEW_SESSIONS:,} or more"
            )
        if 0 < test_samples < min(_FEW_SAMPLES, 0.01 * train_samples):
            warnings.append(
                f"the test split has {_counted(test_samples, 'sample')} of {train_samples + test_samples:,}, too few "
                "to compare models: check the clicks per day and --test-days"
            )
        return warnings


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _sum(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _since_same_click(log: ClickLog) -> np.ndarray:
    """Return int64[T]: ms since the previous click of the same owner, item and type; `_NEVER` without one."""
    keys = [log.time, log.item, log.owner] if log.type is None else [log.time, log.type, log.item, log.owner]
    order = np.lexsort(keys)
    is_same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys[1:]:
        ordered = key[order]
        is_same &= ordered[1:] == ordered[:-1]
    if log.type is not None:
        is_same &= log.type[order[1:]] != NO_CLICK
    gaps = np.full(len(order), _NEVER)
    gaps[order[1:]] = np.where(is_same, np.diff(log.time[order]), _NEVER)
    return gaps
