"""What the served bundle finds of a period that it does not know, and the rows that judge a new one.

A bundle that knows the newest period, as after a live drift, is not measured on it; the one before it is.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.evaluation.paired import HITS
from mtaw_fast.online.replay import NothingScoredError
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.day_files import of_sessions, read_otherwise, rows_of, since, times_of
from mtaw_fast.refreshing.judge import STATES, replayed
from mtaw_fast.refreshing.state import RefreshState

_HOUR_MS = 3_600_000
_TRIED = 200  # clicks of a dry run without a run
_FEWEST = 100  # clicks that judge


def cannot_follow(config: RefreshConfig, bundle: Bundle) -> str | None:
    """Return why a bundle cannot be updated with, or replayed on, the log; None if it can."""
    reader = bundle.dataset.get("reader")
    if bundle.memory is None or not reader:
        return "the served bundle does not learn from a log"
    if others := read_otherwise(reader, config.log.options):
        return f"the served bundle was made of a log that is read with another {' and '.join(others)}"
    return None


def measured(config: RefreshConfig, state: RefreshState, run: dict[str, Any]) -> dict[str, Any] | None:
    """Return P@20 of the bundle that a run judges by on the run's period, frozen and learning; None without one."""
    if (bundle := judging_bundle(config, run)) is None or cannot_follow(config, bundle):
        return None
    began = time.perf_counter()
    try:
        result, _ = replayed(bundle, rows_for(state, run, bundle), run["begin"])
    except NothingScoredError:
        return None
    metrics = result.metrics()
    hits = {name: round(metrics[name][HITS], 3) for name in STATES}
    return {**hits, "samples": len(result.clicks), "seconds": round(time.perf_counter() - began, 2)}


def tried(config: RefreshConfig, state: RefreshState, bundle: Bundle) -> None:
    """Rank a few clicks of the newest accepted period, so that what a run would fail at is seen before.

    Raises MtawError as the run would.
    """
    if (days := state.accepted()) and cannot_follow(config, bundle) is None:
        rows = rows_of([state.file_of(days[-1])])
        times = times_of(rows)
        with contextlib.suppress(NothingScoredError):
            replayed(bundle, rows, int(times[0]), int(times[:_TRIED][-1]) + 1)


def judging_bundle(config: RefreshConfig, run: dict[str, Any]) -> Bundle | None:
    """Return the bundle that a run measures and judges by, which does not know the run's period."""
    return None if run["against"] is None else Bundle.load(config.bundles / run["against"])


def rows_for(state: RefreshState, run: dict[str, Any], bundle: Bundle) -> Any:
    """Return the rows up to a run's period from two periods before the bundle's last click on: sessions go on over
    midnight."""
    known = run["begin"] if bundle.model.learned_until is None else bundle.model.learned_until
    first = min(known, run["begin"]) - 2 * (run["end"] - run["begin"])
    days = [day for day in state.accepted() if day <= run["day"] and state.begin_of(day) > first]
    return rows_of([state.file_of(day) for day in days])


def judged_from(state: RefreshState, run: dict[str, Any], trains: bool, bundle: Bundle) -> int | None:
    """Return the first moment of the clicks that judge a run, in Unix milliseconds; None if these are too few.

    It is the begin of the period. An update of a bundle that knows all earlier ones would be the bundle itself without
    the period; so the first half of its clicks goes into the candidate, and the other half judges.
    """
    times = times_of(since(rows_of([state.file_of(run["day"])]), run["begin"]))
    if len(times) < _FEWEST:
        return None
    known = bundle.model.learned_until or 0
    missing = any(known < state.begin_of(day) < run["begin"] for day in state.accepted())
    return int(run["begin"]) if trains or missing else int(times[len(times) // 2])


def before(rows: Any, gap: float | None, begin: int) -> Any:
    """Return the rows of sessions that end before a moment, in Unix milliseconds."""
    return of_sessions(rows, gap, lambda _, last: last < begin)


def split_at(rows: Any, gap: float | None, day: int, begin: int) -> Any:
    """Return the rows of sessions from `begin` on, and of those an hour before a period that begins at `day`.

    With a `test_days` from the last click back to `begin`, the former are the test split: no session is near its bound.
    """
    return of_sessions(rows, gap, lambda first, last: (first >= begin) | (last < day - _HOUR_MS))


def test_days(rows: Any, begin: int) -> float:
    """Return the `test_days` that end at the last row and go back to `begin`."""
    times: np.ndarray = times_of(rows)
    return float(times[-1] - begin + 1) / 86_400_000
