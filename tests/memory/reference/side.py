"""Side features in plain Python, as a reference for tests of the native ones.

The decayed clicks on items within each value of a context column equal the native sums to the bit. The features follow
their definitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.memory.trends import TrendSettings
from tests.memory.reference.trends import Click, decay_power, rounded

LANE = 4  # the half-life of clicks within a context value
MIN_SUM = 2.0**-8  # an item's sum within a value is stored from here on, decayed to the newest click
PRIOR = 50.0  # clicks that popularity at large counts as
MISSING, NO_TIME = -1, np.iinfo(np.int64).min

Codes = Sequence[int]  # of a visit, one a column; 0 is no value
Visit = list[tuple[Click, Codes]]


def values_of(codes: Codes, sizes: Sequence[int]) -> list[int | None]:
    """Return each column's value as its number among the values of all columns; None for no value."""
    begins = np.cumsum([0, *sizes]).tolist()
    return [None if code == 0 else begins[column] + code - 1 for column, code in enumerate(codes)]


def build(visits: list[Visit], n_items: int, settings: TrendSettings, sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the context arrays of `TrendTables.build`, to the bit."""
    half_life = settings.half_lives_ms[LANE]
    newest = max((time for visit in visits for (time, _), _ in visit), default=0)
    epoch = newest // half_life
    clicks = [click for visit in visits for click in sorted(visit, key=lambda entry: entry[0][0])]
    sums: dict[tuple[int, int], float] = {}
    totals = np.zeros(sum(sizes))
    for (time, item), codes in sorted(clicks, key=lambda entry: entry[0][0]):
        weight = decay_power(time - epoch * half_life, half_life)
        for value in values_of(codes, sizes):
            if value is not None:
                sums[item, value] = sums.get((item, value), 0.0) + weight
                totals[value] += weight
    to_newest = decay_power(epoch * half_life - newest, half_life)
    keys = sorted(key for key, total in sums.items() if total * to_newest >= MIN_SUM)
    lengths = np.bincount([item for item, _ in keys], minlength=n_items) if keys else np.zeros(n_items, int)
    return {
        "context_sizes": np.array(sizes, np.int64),
        "context_offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        "context_values": np.array([value for _, value in keys], np.uint16),
        "context_sums": rounded(np.array([sums[key] for key in keys], np.float64)),
        "context_totals": totals,
    }


@dataclass
class OnlineContext:
    """Clicks by item and context value: those of the tables, and those of the visits since."""

    arrays: dict[str, np.ndarray]
    clock: np.ndarray
    settings: TrendSettings
    visits: dict[int, Visit] = field(default_factory=dict)
    forgotten: list[Visit] = field(default_factory=list)  # visits of the tables

    @property
    def sizes(self) -> list[int]:
        """The number of values of each column, which is its largest code."""
        sizes: list[int] = self.arrays["context_sizes"].tolist()
        return sizes

    def sums(self, now: int) -> tuple[dict[tuple[int, int], float], np.ndarray]:
        """Return the clicks decayed to `now`: by (item, value), and by value float64[V]. now: Unix ms."""
        half_life = self.settings.half_lives_ms[LANE]
        base = decay_power(int(self.clock[LANE]) * half_life - now, half_life)
        offsets = self.arrays["context_offsets"]
        sums: dict[tuple[int, int], float] = {}
        for item in range(len(offsets) - 1):
            for entry in range(offsets[item], offsets[item + 1]):
                sums[item, int(self.arrays["context_values"][entry])] = self.arrays["context_sums"][entry] * base
        totals = self.arrays["context_totals"] * base
        for visits, sign in ((list(self.visits.values()), 1.0), (self.forgotten, -1.0)):
            for visit in visits:
                for (time, item), codes in visit:
                    weight = sign * decay_power(time - now, half_life)
                    for value in values_of(codes, self.sizes):
                        if value is not None:
                            sums[item, value] = sums.get((item, value), 0.0) + weight
                            totals[value] += weight
        return {key: max(total, 0.0) for key, total in sums.items()}, np.maximum(totals, 0)


def context_features(
    online: OnlineContext, now: int, codes: Codes, candidates: list[int], popularity: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return float64[C, 2 columns]: c_share and c_lift of each column.

    codes: of the visit. popularity: each candidate's share of all clicks.
    """
    sums, totals = online.sums(now)
    rows = []
    for item, share in zip(candidates, popularity, strict=True):
        row = []
        for value in values_of(codes, online.sizes):
            clicks, total = (0.0, 0.0) if value is None else (sums.get((item, value), 0.0), totals[value])
            smoothed = (clicks + PRIOR * share) / (total + PRIOR)
            row += [math.log(smoothed), math.log(smoothed / share)]
        rows.append(row)
    return np.array(rows)


def content_features(
    categories: list[np.ndarray], created: np.ndarray | None, now: int, own: list[int], candidates: list[int],
    firsts: Sequence[float] | np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return float64[C, F]: i_same and i_part of each column, and i_age if there are creation times.

    own: items of the session, the latest first. firsts: seconds since each candidate's first click.
    """

    def category(column: np.ndarray, item: int) -> int:
        return int(column[item]) if item < len(column) else MISSING

    rows = []
    for item, first in zip(candidates, firsts, strict=True):
        row = []
        for column in categories:
            code, own_codes = category(column, item), [c for c in (category(column, i) for i in own) if c != MISSING]
            last = category(column, own[0])
            row.append(0.0 if MISSING in (code, last) else 1.0 if code == last else -1.0)
            row.append(0.0 if code == MISSING or not own_codes else 2 * own_codes.count(code) / len(own_codes) - 1)
        if created is not None:
            time = int(created[item]) if item < len(created) else NO_TIME
            age = first if time == NO_TIME else max(now - time, 0) / 1e3
            row.append(math.log1p(age / 60))
        rows.append(row)
    return np.array(rows)
