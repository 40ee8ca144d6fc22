"""The explored positions of a feedback log: what each earned, and what another bundle would have placed there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.errors import UsageError, require
from mtaw_fast.experiment.estimate import MOST_UNKNOWN, Draws
from mtaw_fast.experiment.feedback_log import WINDOW_MS

_COLUMNS = "recommendation, session, placement, items, draws, clicks"
_EARNS = {"click-through": "clicked", "buyers": "bought", "value": "bought"}  # the reports of a metric

# (the session's clicks, candidates, Unix milliseconds) to the number of the candidate that a bundle ranks first, None
# if it knows none of them.
Choose = Callable[[Sequence[Any], Sequence[Any], int], int | None]


@dataclass(frozen=True, slots=True)
class DrawnLog:
    """Explored positions, and how many were left out.

    early: from before the bundle's last click. unknown: of whose candidates it knows none. single: with one candidate.
    """

    draws: Draws
    early: int
    unknown: int
    single: int


def read_draws(
    where: str,
    choose: Choose,
    metric: str = "click-through",
    since: int | None = None,
    until: int | None = None,
    window: int = WINDOW_MS,
    placement: str | None = None,
    learned_until: int | None = None,
) -> DrawnLog:
    """Read the explored positions of a log, and what another bundle would have placed at each.

    where, since, until, window, placement: as in `read_feedback`. metric: what a position earns: a click on its item, a
    purchase, or the value of what was bought. learned_until: Unix milliseconds of the last click that the bundle
    learned: it may have learned what earlier rankings earned. If the log says which rankings were shown, the others are
    left out.

    Raises DataError as `read_feedback`, UsageError if the log has no draws, or the bundle knows too few candidates.
    """
    require("msgspec", "serve")

    from mtaw_fast.experiment.feedback_file import list_of
    from mtaw_fast.experiment.sources import opened

    kind = _EARNS[metric]
    rows: list[tuple[Any, ...]] = []
    early = unknown = single = 0
    reports_shown = False
    numbers: dict[Any, int] = {}
    codes: dict[str, int] = {}
    with opened(where) as reader:
        newest = reader.last_report()
        for rankings in reader.pages("rankings", _COLUMNS, since or 0, until or 1 << 62):
            drawn = [row for row in rankings if row[2] is not None and row[6] != "[]" and placement in (None, row[4])]
            reports: dict[str, list[tuple[Any, ...]]] = {}
            for name, *report in reader.reports_on([row[2] for row in drawn], newest):
                reports.setdefault(name, []).append(tuple(report))
            for time, _, name, session, _, items, draws, clicks in drawn:
                if learned_until is not None and time <= learned_until:
                    early += len(list_of(draws))
                    continue
                listed, past = list_of(items), list_of(clicks)
                in_time = [report for report in reports.get(name, []) if report[0] - time <= window]
                reports_shown |= any(report[1] == "shown" for report in in_time)
                earned = _earned(in_time, kind, metric == "value", list_of)
                for draw in list_of(draws):
                    candidates = draw["candidates"]
                    if len(candidates) < 2:
                        single += 1
                        continue
                    chosen = choose(past, candidates, time)
                    if chosen is None:
                        unknown += 1
                        continue
                    item = listed[draw["position"] - 1]
                    pair = [numbers.setdefault(one, len(numbers)) for one in (item, candidates[chosen])]
                    code = codes.setdefault(session or name, len(codes))
                    rows.append((code, draw["chance"], *pair, earned.get(item, 0.0), bool(in_time)))
    rows = [row for row in rows if row[5] or not reports_shown]
    _check(len(rows), early, unknown)
    sessions, chances, placed, chosen_items, earnings, _ = zip(*rows, strict=True)
    session_codes = np.unique(sessions, return_inverse=True)[1]  # without those of rows that were left out
    arrays = np.array(chances), np.array(placed), np.array(chosen_items), np.array(earnings, dtype=np.float64)
    return DrawnLog(Draws(session_codes, *arrays), early, unknown, single)


def _earned(
    reports: Sequence[tuple[Any, ...]], kind: str, by_value: bool, list_of: Callable[[str], list[Any]]
) -> dict[Any, float]:
    """Return what the items of a ranking earned, each report counted once."""
    earned: dict[Any, float] = {}
    for _, what, items, values in reports:
        if what == kind:
            for item, value in zip(list_of(items), list_of(values), strict=False):
                earned.setdefault(item, value if by_value else 1.0)
    return earned


def _check(count: int, early: int, unknown: int) -> None:
    """Raise UsageError if there is nothing to estimate from, or the bundle could not have placed much of it."""
    if unknown > MOST_UNKNOWN * (count + unknown):
        raise UsageError(
            f"the log does not support an estimate: the bundle knows none of the candidates of {unknown:,} of "
            f"{count + unknown:,} explored positions; use a bundle that has these items"
        )
    if not count:
        before = f", and {early:,} from before its last click" if early else ""
        raise UsageError(
            f"the log has no explored positions that this bundle can be estimated by (0 after its last click{before}); "
            "rankings without exploration, or from before draws were recorded, say nothing of other bundles"
        )
