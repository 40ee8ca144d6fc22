"""The feedback that a service keeps, read as one row per session.

A report counts once for each ranking, kind and item, however often it was sent. A click counts for its ranking only
within a window after it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.errors import require

WINDOW_MS = 24 * 3_600_000
_RANKING_COLUMNS = "recommendation, session, version, bundle, share, placement, rules, rules_share"
NO_RULES = "no rules"  # the arm of sessions without a rule set
_ROUNDING = 1e-9  # of the sum of the shares


@dataclass(slots=True, eq=False)
class SessionTable:
    """Sessions of the log, S of them, in the order of their first ranking.

    Attributes
    ----------
    arm, began : int64[S]
        The session's arm, and Unix milliseconds of its first ranking.
    rankings, shown, clicked : float64[S]
        Its rankings; those reported as shown, or clicked; those with a click.
    carted, bought, value : float64[S]
        Items put into the cart, and bought, and the value of what was bought.
    arms : list of str
        The bundles or rule sets, in the order in which they first answered.
    shares : list of float
        The share of the sessions that each was last given.
    reports_shown : bool
        Whether the log says which rankings were shown at all.
    without_session, moved, unmatched, duplicates, late : int
        Left out: rankings without a session's id, sessions that two arms answered, reports on no known ranking,
        reports that were sent before, reports after the window.
    changed : int or None
        Unix milliseconds at which the shares last changed, if they did.
    """

    arms: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    arm: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    began: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    rankings: np.ndarray = field(default_factory=lambda: np.empty(0))
    shown: np.ndarray = field(default_factory=lambda: np.empty(0))
    clicked: np.ndarray = field(default_factory=lambda: np.empty(0))
    carted: np.ndarray = field(default_factory=lambda: np.empty(0))
    bought: np.ndarray = field(default_factory=lambda: np.empty(0))
    value: np.ndarray = field(default_factory=lambda: np.empty(0))
    reports_shown: bool = False
    without_session: int = 0
    moved: int = 0
    unmatched: int = 0
    duplicates: int = 0
    late: int = 0
    changed: int | None = None

    def __len__(self) -> int:
        return len(self.arm)

    @property
    def opportunities(self) -> np.ndarray:
        """float64[S]: the rankings that could be clicked: those shown, or all if the log does not say which."""
        return self.shown if self.reports_shown else self.rankings


def read_feedback(
    where: str,
    since: int | None = None,
    until: int | None = None,
    window: int = WINDOW_MS,
    placement: str | None = None,
    by_rules: bool = False,
) -> SessionTable:
    """Read a feedback log: what `mtaw-fast serve --feedback` was given, or JSON lines as `sources.export` writes them.

    since, until: Unix milliseconds: only rankings from then on, and before then. window: milliseconds after its ranking
    in which a report counts. placement: only its rankings. by_rules: the arms are its rule sets, not the bundles;
    rankings with the rules of a request are left out. Raises DataError if there is no log, it cannot be read, or a
    whole line is not of it.
    """
    require("msgspec", "serve")

    from mtaw_fast.experiment.feedback_file import list_of
    from mtaw_fast.experiment.sources import opened

    since, until = since or 0, until or 1 << 62
    counting = _Counting(window, list_of)
    with opened(where) as reader:
        newest = reader.last_report()  # later ones may be on rankings that are not read
        for rankings in reader.pages("rankings", _RANKING_COLUMNS, since, until):
            reports: dict[str, list[tuple[Any, ...]]] = {}
            for name, *report in reader.reports_on([row[2] for row in rankings if row[2] is not None], newest):
                reports.setdefault(name, []).append(tuple(report))
            for time, _, name, session, version, bundle, share, place, rules, rules_share in rankings:
                if name is None or placement not in (None, place):  # no name: it was forgotten
                    continue
                if not by_rules:
                    counting.add(time, session, bundle or version, share, reports.get(name, []))
                elif not rules.startswith("#"):
                    counting.add(time, session, rules or NO_RULES, rules_share, reports.get(name, []))
        unmatched = reader.unmatched(since, until, newest)
    return counting.table(unmatched)


class _Counting:
    """Collects sessions from rankings, oldest first."""

    def __init__(self, window: int, list_of: Callable[[str], list[Any]]) -> None:
        self._window, self._list_of = window, list_of
        self._arms: dict[str, int] = {}
        self._shares: list[float] = []
        self._sessions: dict[str, int] = {}
        self._columns: dict[str, Any] = {
            name: array("q" if name in ("arm", "began") else "d")
            for name in ("arm", "began", "rankings", "shown", "clicked", "carted", "bought", "value")
        }
        self._moved: set[int] = set()
        self._result = SessionTable()

    def add(self, time: int, session: str, name: str, share: float, reports: list[tuple[Any, ...]]) -> None:
        """Add a ranking of the arm `name`, and the (time, what, items, values) of the reports on it."""
        if not session:
            self._result.without_session += 1
            return
        arm = self._arms.setdefault(name, len(self._arms))
        if arm == len(self._shares):
            self._shares.append(share)
            has_changed = sum(self._shares) > 1 + _ROUNDING  # it took the share of an arm that answers no more
        else:
            has_changed = self._shares[arm] != share
            self._shares[arm] = share
        if has_changed:
            self._result.changed = time
        columns = self._columns
        row = self._sessions.setdefault(session, len(self._sessions))
        if row == len(columns["arm"]):
            for column in columns.values():
                column.append(0)
            columns["arm"][row], columns["began"][row] = arm, time
        elif columns["arm"][row] != arm:
            self._moved.add(row)
        columns["rankings"][row] += 1
        if reports:
            self._add_reports(row, time, reports)

    def _add_reports(self, row: int, time: int, reports: list[tuple[Any, ...]]) -> None:
        columns, seen = self._columns, set()
        for reported, kind, items, values in reports:
            if reported - time > self._window:
                self._result.late += 1
                continue
            for item, value in zip(self._list_of(items), self._list_of(values), strict=False):
                if (kind, item) in seen:
                    self._result.duplicates += 1
                    continue
                seen.add((kind, item))
                if kind in ("carted", "bought"):
                    columns[kind][row] += 1
                    columns["value"][row] += value if kind == "bought" else 0.0
        kinds = {kind for kind, _ in seen}
        self._result.reports_shown |= "shown" in kinds
        columns["shown"][row] += bool(kinds)
        columns["clicked"][row] += "clicked" in kinds

    def table(self, unmatched: int) -> SessionTable:
        """Return the sessions of one arm each, by their first ranking. unmatched: reports on no known ranking."""
        table = self._result
        table.arms, table.shares, table.moved, table.unmatched = (
            list(self._arms), self._shares, len(self._moved), unmatched,
        )  # fmt: skip
        is_kept = np.ones(len(self._sessions), dtype=bool)
        is_kept[list(self._moved)] = False
        order = np.argsort(np.array(self._columns["began"]), kind="stable")
        order = order[is_kept[order]]
        for name, column in self._columns.items():
            setattr(table, name, np.array(column)[order])
        return table
