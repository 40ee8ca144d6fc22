"""What a log held and what became of it: counted on the way to a data set, kept in its manifest.

Axes: T rows, B sessions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.data.readers.click_log import NO_CLICK, ClickLog

_DAY_MS = 86_400_000
_SECOND_MS = 1000
_NEVER = np.iinfo(np.int64).max
_REPEATED = 0.1  # share of clicks that come again within a second, from which a log is suspected to count twice
_LONELY = 0.001  # share of the clicks
_EMPTY_DAYS = 30  # between those and all others
_ROBOTS = 1000  # clicks of a session
_ROBOTS_SHARE = 0.05  # of all clicks, from which long sessions that are left out are worth a word
_UNSEEN = 0.2  # of the test clicks
_FEW_SESSIONS = 1000
_FEW_SAMPLES = 100
_SUMS = (
    "rows", "bad_rows", "clicks", "repeats", "near_repeats", "dropped_repeats", "sessions", "short_sessions",
    "long_sessions", "long_clicks", "rare_items", "test_clicks", "unseen_clicks", "missed_targets",
)  # fmt: skip


@dataclass(slots=True)
class LogReport:
    """Counts of one `prepare`.

    Attributes
    ----------
    rows, bad_rows : int
        Of the log; the bad ones could not be read and were left out.
    clicks : int
        Rows that count as clicks, without those that `dedupe` left out.
    repeats, near_repeats, dropped_repeats : int
        Clicks on the same item by the same session (or user), of the same type: at the same time as another, within a
        second of the one before, and those that were left out for it.
    sessions, short_sessions, long_sessions, longest : int
        As they were cut; those left out for having too few or too many clicks (left after the support filter), and the
        clicks of the longest.
    long_clicks : int
        Clicks in those that were too long.
    items, rare_items : int
        Distinct ones that were clicked, and those of too little support.
    days : dict of str to int
        Clicks a day (UTC, '2024-05-01'), days without one left out; empty where the log has no real times.
    test_clicks, unseen_clicks : int
        Clicks of the test sessions, and those of them on items that training never saw.
    missed_targets : int
        Of the latter, those that would be targets of samples.
    warnings : list of str
        What looks wrong, a line each.
    """

    rows: int = 0
    bad_rows: int = 0
    clicks: int = 0
    repeats: int = 0
    near_repeats: int = 0
    dropped_repeats: int = 0
    sessions: int = 0
    short_sessions: int = 0
    long_sessions: int = 0
    longest: int = 0
    long_clicks: int = 0
    items: int = 0
    rare_items: int = 0
    days: dict[str, int] = field(default_factory=dict)
    test_clicks: int = 0
    unseen_clicks: int = 0
    missed_targets: int = 0
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def unseen_share(self) -> float:
        """Of the test clicks, those on items that training never saw; 0 without a test."""
        return self.unseen_clicks / self.test_clicks if self.test_clicks else 0.0

    def read(self, log: ClickLog, dedupe_ms: int | None) -> ClickLog:
        """Count the rows of a log; the log without the clicks that follow the same one within `dedupe_ms`."""
        kept = self.kept(log, dedupe_ms)
        return log if kept is None else log.select(kept)

    def kept(self, log: ClickLog, dedupe_ms: int | None) -> np.ndarray | None:
        """Count the rows of a log; bool[T], those that `read` keeps, or None where that is all."""
        self.rows, self.bad_rows = len(log) + log.bad_rows, log.bad_rows
        gaps = _since_same_click(log)
        self.repeats = int(np.count_nonzero(gaps == 0))
        self.near_repeats = int(np.count_nonzero(gaps <= _SECOND_MS))
        kept = None if dedupe_ms is None else gaps > dedupe_ms
        clicks = np.ones(len(log), bool) if log.type is None else log.type != NO_CLICK
        if kept is not None:
            self.dropped_repeats = len(kept) - int(np.count_nonzero(kept))
            clicks = clicks & kept
        self.clicks = int(np.count_nonzero(clicks))
        return kept

    def add(self, other: LogReport) -> None:
        """Take in the counts of a part of the log that shares no session with the others. Distinct items do not add
        up, and warnings are of the whole."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.longest = max(self.longest, other.longest)
        days = {day: self.days.get(day, 0) + other.days.get(day, 0) for day in {**self.days, **other.days}}
        self.days = dict(sorted(days.items(), key=lambda pair: np.datetime64(pair[0])))

    def times(self, times: np.ndarray) -> None:
        """Count the clicks int64[T] (ms) by day."""
        days, counts = np.unique(times // _DAY_MS, return_counts=True)
        names = np.datetime_as_string(days.astype("datetime64[D]"))
        self.days = dict(zip(names.tolist(), counts.tolist(), strict=True))

    def judge(self, max_session: int | None, train_sessions: int, train_samples: int, test_samples: int) -> None:
        """Add the warnings. max_session: the most clicks of a session; the others: of the data set."""
        found = [
            *self._odd_times(test_samples),
            *self._robots(max_session),
            *self._twice(),
            *self._too_few(train_sessions, train_samples, test_samples),
        ]
        if self.unseen_share >= _UNSEEN:
            found.append(
                f"{self.unseen_share:.0%} of the test clicks are on items that training never saw, which no training "
                "helps: evaluate with --unseen misses to count them, and serve with --learn to know such items at once"
            )
        self.warnings = found

    def _odd_times(self, test_samples: int) -> list[str]:
        if not self.days:
            return []
        days = np.array(list(self.days), dtype="datetime64[D]").astype(np.int64)
        counts = np.array(list(self.days.values()), dtype=np.int64)
        found = []
        ahead = days > int(time.time() * 1000) // _DAY_MS + 1
        if ahead.any():
            found.append(
                f"{_some(int(counts[ahead].sum()), 'click')} from {self._day(days, ahead.argmax())} on lie in the "
                "future: mend or remove such rows"
            )
        before, total = np.cumsum(counts), int(counts.sum())
        for place in np.flatnonzero(np.diff(days) > _EMPTY_DAYS).tolist():
            late, early = total - int(before[place]), int(before[place])
            gap = int(days[place + 1] - days[place]) - 1
            if late <= max(1, _LONELY * total):
                found.append(
                    f"{_some(late, 'click')} from {self._day(days, place + 1)} on {_stand(late)} alone, "
                    f"{gap:,} days after all others: the test days are counted back from the last click, so the test "
                    f"holds {_some(test_samples, 'sample')}; remove such rows"
                )
            elif early <= max(1, _LONELY * total):
                found.append(
                    f"{_some(early, 'click')} up to {self._day(days, place)} {_stand(early)} alone, "
                    f"{gap:,} days before all others; remove such rows"
                )
        return found

    def _day(self, days: np.ndarray, place: Any) -> str:
        return str(days[int(place)].astype("datetime64[D]"))

    def _robots(self, max_session: int | None) -> list[str]:
        share = self.long_clicks / max(self.clicks, 1)
        if max_session is not None and share >= _ROBOTS_SHARE:
            return [
                f"{_some(self.long_sessions, 'session')} of more than {max_session:,} clicks (the longest "
                f"{self.longest:,}) held {share:.0%} of all clicks and are left out: robots? --max-session N keeps "
                "those up to N clicks"
            ]
        if max_session is None and self.longest > _ROBOTS:
            return [
                f"the longest session has {self.longest:,} clicks (a robot?), and every click of it is trained; "
                "--max-session N leaves longer ones out"
            ]
        return []

    def _twice(self) -> list[str]:
        share = self.near_repeats / max(self.clicks + self.dropped_repeats, 1)
        if share < _REPEATED or self.dropped_repeats >= self.near_repeats:
            return []
        return [
            f"{share:.0%} of the clicks repeat the same item of the same session within a second, {self.repeats:,} of "
            "them at the same time: is every event logged twice? Repeats are easy to predict and flatter the metrics; "
            "--dedupe 1 counts such clicks once"
        ]

    def _too_few(self, train_sessions: int, train_samples: int, test_samples: int) -> list[str]:
        found = []
        if train_sessions < _FEW_SESSIONS:
            found.append(
                f"{_some(train_sessions, 'session')} to train on {'is' if train_sessions == 1 else 'are'} too few to "
                f"learn from: a useful model needs {_FEW_SESSIONS:,} and more"
            )
        if 0 < test_samples < min(_FEW_SAMPLES, 0.01 * train_samples):
            found.append(
                f"the test holds {_some(test_samples, 'sample')} of {train_samples + test_samples:,}, too few to tell "
                "models apart: look at the clicks a day and at --test-days"
            )
        return found


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _since_same_click(log: ClickLog) -> np.ndarray:
    """int64[T]: ms since the click before on the same item, of the same owner and type; endless where there is none."""
    keys = [log.time, log.item, log.owner] if log.type is None else [log.time, log.type, log.item, log.owner]
    order = np.lexsort(keys)
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys[1:]:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    if log.type is not None:
        same &= log.type[order[1:]] != NO_CLICK
    gaps = np.full(len(order), _NEVER)
    gaps[order[1:]] = np.where(same, np.diff(log.time[order]), _NEVER)
    return gaps
