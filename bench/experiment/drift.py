"""Drift over a log, as a service measures it: the clicks of each window against those of the training before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.drift import FEWEST_CLICKS, GAPS_MS, GROUPS, LENGTHS, DriftReference, drift_of

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Window:
    """The drift of one window. end: Unix ms. clicks: number of clicks that follow another one in their session."""

    end: int
    clicks: int
    drift: dict[str, float]


def hourly_drift(
    sessions: Sessions, n_items: int, trained_until: int, begin: int | None = None
) -> tuple[DriftReference, list[Window]]:
    """Return the training's clicks, and the drift of each hour, or of several until there are enough clicks.

    sessions: with times, oldest first. trained_until: Unix milliseconds; sessions that end before it are the training.
    begin: where the first window begins; by default at the end of the training. Raises UsageError if the training or
    the windows have too few clicks.
    """
    assert sessions.times is not None
    last = sessions.times[sessions.offsets[1:] - 1]
    trained = sessions.select(np.flatnonzero(last < trained_until))
    reference = DriftReference.of(trained, n_items)
    if reference is None:
        raise UsageError("the log has no session of two clicks before the end of the training; end it later")
    starts = np.repeat(sessions.offsets[:-1], sessions.lengths)
    positions = np.arange(sessions.n_clicks) - starts
    following = positions > 0
    gaps = np.diff(sessions.times, prepend=sessions.times[:1])
    groups = {
        "popularity": reference.groups_of_items(sessions.items),
        "length": np.searchsorted(LENGTHS, positions),
        "repeat": _repeated(sessions),
        "gap": np.searchsorted(GAPS_MS, gaps),
    }
    windows = []
    start = trained_until if begin is None else begin
    end = start + HOUR_MS
    while end <= int(sessions.times.max()):
        live = following & (sessions.times >= start) & (sessions.times < end)
        count = int(np.count_nonzero(live))
        if count >= FEWEST_CLICKS:
            drift = {
                feature: drift_of(np.bincount(groups[feature][live], minlength=GROUPS[feature]), shares)
                for feature, shares in reference.shares.items()
            }
            windows.append(Window(end, count, drift))
            start = end
        end += HOUR_MS
    if not windows:
        raise UsageError(f"the log has no window of {FEWEST_CLICKS:,} clicks after the training; end it earlier")
    return reference, windows


def _repeated(sessions: Sessions) -> np.ndarray:
    repeated = np.zeros(sessions.n_clicks, np.int64)
    click = 0
    for items in sessions:
        seen: set[int] = set()
        for item in items.tolist():
            repeated[click] = item in seen
            seen.add(item)
            click += 1
    return repeated
