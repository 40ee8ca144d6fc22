"""Timed click logs for the tests of trends: random sessions, and streams with late clicks and forgotten sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.trend_tables import build_trends
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory.constants import OWN
from mtaw_fast.memory.trends import TrendSettings, TrendTables
from tests.memory.reference.trends import Click, OnlineTrends

START = 1_700_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 24 * 3_600_000


def random_sessions(count: int, n_items: int, seed: int, span: int = 3 * DAY, longest: int = 9) -> list[list[Click]]:
    """Return sessions of 0..longest clicks within `span` ms, some out of order and some at the same time."""
    rng = np.random.default_rng(seed)
    sessions = []
    for _ in range(count):
        n = int(rng.integers(0, longest + 1))
        times = START + int(rng.integers(span)) + np.cumsum(rng.integers(0, 3, n) * rng.integers(0, 20 * MINUTE, n))
        if rng.random() < 0.3:
            rng.shuffle(times)
        items = (n_items * rng.random(n) ** 2).astype(int)
        sessions.append(list(zip(times.tolist(), items.tolist(), strict=True)))
    return sessions


def packed(sessions: list[list[Click]]) -> tuple[Sessions, np.ndarray]:
    """Return sessions and the times of their clicks."""
    times = np.array([time for session in sessions for time, _ in session], np.int64)
    return Sessions.from_lists([[item for _, item in session] for session in sessions]), times


def own_items(items: list[int]) -> list[int]:
    """Return the items of a session that are its own candidates, latest first."""
    return list(dict.fromkeys(reversed(items)))[:OWN]


def tables_of(
    sessions: list[list[Click]], n_items: int, settings: TrendSettings, threads: int = 1, once_from: int | None = None
) -> TrendTables:
    """Return native tables."""
    items, times = packed(sessions)
    return TrendTables.build(items, times, n_items, settings, once_from=once_from, threads=threads)


@dataclass
class Pair:
    """The native object and the reference, with the same clicks."""

    native: Trends
    reference: OnlineTrends

    def click(self, handle: int, item: int, time: int) -> None:
        """Add a click to both."""
        self.native.click(np.array([handle]), np.array([item], np.int32), np.array([time]))
        self.reference.click(handle, item, time)

    def forget_in_tables(self, clicks: list[Click], left: list[list[Click]]) -> None:
        """Remove a session of the tables from both. left: the sessions of the tables without it."""
        tables = self.reference.tables
        sessions, times = packed(left)
        arrays: dict[str, Any] = build_trends(
            sessions.items.copy(), sessions.offsets, times, tables.n_items, **tables.settings.native,
            newest=int(tables.clock[-1]),
        )  # fmt: skip
        moments, items = (np.array(column) for column in zip(*clicks, strict=True))
        self.native.forget_in_tables(items.astype(np.int32), moments, arrays, np.arange(tables.n_items, dtype=np.int32))
        self.reference.forget_in_tables(clicks, TrendTables(**arrays, settings=tables.settings))

    def forget(self, handle: int) -> None:
        """Remove a session from both."""
        assert self.native.forget(handle)
        self.reference.forget(handle)


def pair_of(tables: TrendTables, capacity: int, isa: str | None = None, once: bool = False) -> Pair:
    """Return both over the same tables."""
    return Pair(tables.live(capacity, isa=isa, once=once), OnlineTrends(tables, once))


def feed(pair: Pair, count: int, n_items: int, seed: int, begin: int, step: int = 2 * MINUTE) -> int:
    """Feed clicks from `begin` on, one in eight late, with some sessions forgotten; return the time at the end."""
    rng = np.random.default_rng(seed)
    now, alive = begin, []
    for _ in range(count):
        now += int(rng.integers(step))
        if alive and rng.random() < 0.03:
            pair.forget(alive.pop(int(rng.integers(len(alive)))))
            continue
        if not alive or rng.random() < 0.35:
            handle = int(rng.integers(1 << 40))
            alive.append(handle)
        else:
            handle = alive[-int(min(rng.geometric(0.4), len(alive)))]
        late = int(rng.integers(3 * HOUR)) if rng.random() < 0.125 else 0
        pair.click(handle, int(n_items * rng.random() ** 2), now - late)
    return now
