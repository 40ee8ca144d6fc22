"""The memory tables in plain Python, by their definitions, as a reference for tests of the native builder.

Slow, and equal to it bit for bit: both add float64 terms in the order of the clicks (a click's `near` pairs before its
`ses` pairs, each in order of time), sum a row in the order in which its neighbors were first met, and round once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.kernels.native.memory_tables import COUNTS, PAIR_KINDS
from mtaw_fast.memory.bfloat16 import to_bfloat16
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.tables import MemoryTables

_STRENGTH = ("fwd", "bwd", "ses", "rec")


@dataclass(slots=True)
class _Pair:
    """The statistics of an item and one neighbor."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PAIR_KINDS, 0.0))
    latest: int = -1


def build_reference(sessions: Sessions, n_items: int, settings: MemorySettings) -> MemoryTables:
    """Return what `MemoryTables.build` does, for sessions of items 0..N-1."""
    settings = settings.resolved(len(sessions))
    clicks = [session.tolist() for session in sessions]
    rows = _pairs(clicks, n_items, settings)
    totals = [_totals(row) for row in rows]
    kept_neighbors = [
        _strongest(row, total)[: settings.max_neighbors or None] for row, total in zip(rows, totals, strict=True)
    ]
    sessions_with = _sessions_with(clicks, n_items)
    postings = [numbers[-settings.max_postings :] for numbers in sessions_with]
    pairs = [rows[item][neighbor] for item, neighbors in enumerate(kept_neighbors) for neighbor in neighbors]
    return MemoryTables(
        row_offsets=offsets_of(np.array([len(neighbors) for neighbors in kept_neighbors], np.int64)),
        neighbors=_flat(kept_neighbors),
        latest=np.array([pair.latest for pair in pairs], np.int32),
        values=to_bfloat16(np.array([list(pair.sums.values()) for pair in pairs]).reshape(-1, len(PAIR_KINDS))),
        totals=np.array([list(total.values()) for total in totals], np.float32).reshape(-1, len(PAIR_KINDS)),
        counts=np.array(_counts(clicks, sessions_with), np.int32).reshape(-1, len(COUNTS)),
        post_offsets=offsets_of(np.array([len(numbers) for numbers in postings], np.int64)),
        postings=_flat(postings),
        session_offsets=sessions.offsets,
        session_items=sessions.items,
        settings=settings,
    )


def delta_rows(
    sessions: Sequence[Sequence[int]], settings: MemorySettings, once: bool = False
) -> dict[int, dict[int, np.ndarray]]:
    """Return the pairs of every item in a delta, float64[6] in the order of PAIR_KINDS, by item and neighbor.

    sessions: by last click. settings: with `recency` as a number. once: whether sessions count a pair once.
    `rec` is as of the item's latest session in the delta.
    """
    n_items = 1 + max((item for session in sessions for item in session), default=-1)
    rows = _pairs([list(session) for session in sessions], n_items, replace(settings, once_from=0 if once else None))
    return {
        item: {other: np.array([*pair.sums.values()]) for other, pair in row.items()}
        for item, row in enumerate(rows)
        if row
    }


def _pairs(clicks: list[list[int]], n_items: int, settings: MemorySettings) -> list[dict[int, _Pair]]:
    """Return every item's neighbors, in the order in which they first occur."""
    assert settings.recency is not None
    newest = {item: s for s, session in enumerate(clicks) for item in session}
    rows: list[dict[int, _Pair]] = [{} for _ in range(n_items)]
    for s, session in enumerate(clicks):
        first = {item: t for t, item in reversed(list(enumerate(session)))}
        once = settings.once_from is not None and s >= settings.once_from
        near = near_once(session) if once else dict(enumerate(session))
        for t, item in enumerate(session):
            row = rows[item]
            for j, other in near.items() if first[item] == t or not once else ():
                distance = list(near).index(j) - list(near).index(t) if once else j - t
                if other == item or abs(distance) > settings.window:
                    continue
                pair = row.setdefault(other, _Pair())
                pair.latest = s
                weight = 1 / abs(distance)
                pair.sums["fwd" if distance > 0 else "bwd"] += weight
                pair.sums["next"] += distance == 1
                pair.sums["rec"] += weight * math.exp(-(newest[item] - s) / settings.recency)
            if first[item] != t:
                continue
            for other, j in sorted(first.items(), key=lambda entry: entry[1]):
                if other == item or abs(j - t) > settings.span:
                    continue
                pair = row.setdefault(other, _Pair())
                pair.latest = s
                pair.sums["ses"] += 1
                pair.sums["aa"] += 1 / (len(first) - 1)
    return rows


def near_once(session: list[int]) -> dict[int, int]:
    """Return the clicks of a session that counts a pair once which count: the first on each item, by position."""
    return {t: item for t, item in enumerate(session) if item not in session[:t]}


def _totals(row: dict[int, _Pair]) -> dict[str, float]:
    totals = dict.fromkeys(PAIR_KINDS, 0.0)
    for pair in row.values():
        for kind, value in pair.sums.items():
            totals[kind] += value
    return totals


def _strongest(row: dict[int, _Pair], totals: dict[str, float]) -> list[int]:
    """Return all neighbors, the strongest first."""
    strengths = {}
    for other, pair in row.items():
        strengths[other] = 0.0
        for kind in _STRENGTH:
            strengths[other] += pair.sums[kind] / (totals[kind] + 1)
    return sorted(row, key=lambda other: (-strengths[other], other))


def _sessions_with(clicks: list[list[int]], n_items: int) -> list[list[int]]:
    """Return the sessions with every item, ascending."""
    sessions_with: list[list[int]] = [[] for _ in range(n_items)]
    for s, session in enumerate(clicks):
        for item in sorted(set(session)):
            sessions_with[item].append(s)
    return sessions_with


def _counts(clicks: list[list[int]], sessions_with: list[list[int]]) -> list[list[int]]:
    """Return the columns of COUNTS for every item."""
    counts = [[0, len(numbers), 0, 0, numbers[-1] if numbers else -1] for numbers in sessions_with]
    for session in clicks:
        for t, item in enumerate(session):
            counts[item][0] += 1
            counts[item][2] += item in session[t + 1 :]
            counts[item][3] += session[t + 1 : t + 2] == [item]
    return counts


def _flat(runs: list[list[int]]) -> np.ndarray:
    return np.array([value for run in runs for value in run], np.int32)
