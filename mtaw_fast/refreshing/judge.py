"""Judge a new training against the served bundle on a period that neither has seen, frozen and learning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.assessment import compare
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataWarning
from mtaw_fast.evaluation.paired import HITS, Comparison, Difference, gains_over
from mtaw_fast.online.batch_update import log_limits
from mtaw_fast.online.replay import ReplayResult, ReplaySettings, replay
from mtaw_fast.workflow import log_of, min_prefix_of


def replayed(bundle: Bundle, log: Any, begin: int) -> tuple[ReplayResult, np.ndarray]:
    """Replay a period's log, a frame, from `begin` on, Unix milliseconds; return also the session of each click."""
    limits = log_limits()
    settings = ReplaySettings(begin=begin, min_prefix=min_prefix_of(bundle), every=60_000)
    read = log_of(bundle, log, limits)
    return replay(read, settings, limits), read.stream.sessions


def judged(
    incumbent: Bundle, candidate: Bundle, dataset: Dataset | Path, log: Any, begin: int, must_hold: Mapping[str, float]
) -> dict[str, Any]:
    """Compare a candidate with the served bundle; return plain JSON values.

    dataset: its test split is the period, which neither bundle has seen. log, begin: as in `replayed`. must_hold: how
    many percentage points of each metric the candidate may lose.

    Returns `worse`, what does not hold, and `frozen` and `learning`, the differences by metric with 95% intervals.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the last session before midnight may end in both parts
        frozen = compare(incumbent, candidate, dataset, examples=0)
    learning = _learning(incumbent, candidate, log, begin)
    worse = [*_worse(frozen, must_hold), *(f"learning {text}" for text in lost(learning, must_hold))]
    return {
        "worse": worse,
        "verdict": frozen.verdict,
        "samples": frozen.samples,
        "frozen": {name: difference.as_dict() for name, difference in frozen.metrics.items()},
        "learning": {name: difference.as_dict() for name, difference in learning.items()},
    }


def _learning(incumbent: Bundle, candidate: Bundle, log: Any, begin: int) -> dict[str, Difference]:
    if not (incumbent.memory and candidate.memory):
        return {}
    (first, sessions), (second, _) = replayed(incumbent, log, begin), replayed(candidate, log, begin)
    clicks, mine, others = np.intersect1d(first.clicks, second.clicks, return_indices=True)
    return gains_over(first.ranks["learning"][mine], second.ranks["learning"][others], sessions[clicks], trials=1)


def lost(metrics: Mapping[str, Difference], must_hold: Mapping[str, float]) -> Iterator[str]:
    """Yield the metrics that are shown to be worse by more than they may."""
    for name, margin in must_hold.items():
        difference = metrics.get(name)
        if difference is None or difference.difference >= -margin:
            continue
        if difference.interval is None or difference.interval[1] < 0:
            yield f"{name} {difference.difference:+.2f}, at most {-margin:.2f}"


def _worse(comparison: Comparison, must_hold: Mapping[str, float]) -> Iterator[str]:
    yield from lost(comparison.metrics, must_hold)
    margin = must_hold.get(HITS, 0.0)
    for name, values in comparison.slices.items():
        for value, part in values.items():
            difference = part.metrics[HITS].difference
            if part.holds and difference < -margin:
                yield f"{HITS} {difference:+.2f} where {name} is {value}"
