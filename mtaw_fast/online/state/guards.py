"""Guards against colluding sessions: what open clicks may move is a share of a shop's traffic.

A session costs nothing, so no single one proves anything. What proves an item, or a pair of items, is the traffic of
others. Both guards decide in the log's order and from its counts alone, so that every reader of a log decides the
same, also after a restart: a compacted bundle stores their state.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np

from mtaw_fast.kernels.native.memory_tables import COUNTS
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.settings import DAY_MS, LearningLimits

_MEMORY_MS = 3 * DAY_MS  # how far the long-run traffic looks back
_LONGEST_MS = 3_600_000  # of a window
_UNIT = 1024  # parts of a click that it is counted in
_MAX_PERIOD, _MIN_PERIOD = 1 << 17, 256  # visits
_FEW = 1_000  # 1 / the share of a period's visits that any pair may have
_MONTH = 30  # days that a bundle without times is taken to be of
_CELLS = 1 << 21  # of one of the two rows of pair counts
_LAST_CELL = _CELLS - 1
_A, _B, _C, _D = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F  # of the hashes of a pair
_MAX_COUNT = 255  # a pair's: more are not told apart


class FloodGuard:
    """Applies `item_share` and `new_share`: of a window's visits, one item gets a share, and new items get one.

    A visit is a session's first click on an item; only learned ones count. The share is of the visits of the window so
    far, or of those that the long-run traffic brings in a window if that is more. A window is as long as the long-run
    traffic takes to allow `item_floor` visits, but at most an hour, and at least `item_window`. The long-run traffic is
    that of proven sessions, those with more than `fresh_visits` visits. At a constant rate r it is r * `_MEMORY_MS`; a
    span dt without visits leaves 1 / (1 + dt / `_MEMORY_MS`) of it. rate: visits of proven sessions per millisecond in
    the training.

    A clock is that of the arrivals, or without them of the clicks: a client must not open a window, or keep one open.
    """

    def __init__(self, limits: LearningLimits, rate: float = 0.0) -> None:
        self._limits = limits
        self._traffic, self._at = int(rate * _MEMORY_MS * _UNIT), 0
        self._begin = self._end = self._floor = 0
        self._total = self._proven = self._new = self._new_floor = 0
        self._items: Counter[int] = Counter()
        self._sessions: dict[int, list[int]] = {}

    def admits(self, item: int | str, clock: int) -> bool:
        """Return whether a visit to an item may be learned."""
        self._turn(clock)
        return self._items[_key(item)] + 1 <= max(self._floor, self._limits.item_share * (self._total + 1))

    def admits_new(self, clock: int) -> bool:
        """Return whether an item may enter the catalog by a single session."""
        self._turn(clock)
        return self._new + 1 <= max(self._new_floor, self._limits.new_share * (self._total + 1))

    def enter(self) -> None:
        """Count an item that entered the catalog."""
        self._new += 1

    def count(self, session: int, item: int | str, visits: int, clock: int) -> None:
        """Count a learned visit. session: its key. visits: of the session so far, with this one."""
        self._turn(clock)
        key = _key(item)
        self._total += 1
        self._items[key] += 1
        self._sessions.setdefault(session, []).append(key)
        if visits > self._limits.fresh_visits:
            self._proven += visits if visits == self._limits.fresh_visits + 1 else 1

    def count_trusted(self, visits: int, clock: int) -> None:
        """Count a visit of a trusted session, which takes nothing of an item's share."""
        self._turn(clock)
        self._total += 1
        if visits > self._limits.fresh_visits:
            self._proven += visits if visits == self._limits.fresh_visits + 1 else 1

    def release(self, session: int) -> None:
        """Uncount the visits of a session that is forgotten, by its key."""
        for key in self._sessions.pop(session, ()):
            self._items[key] -= 1
            self._total -= 1

    def _turn(self, clock: int) -> None:
        if not self._begin <= clock < self._end:
            self._open_window(clock)

    def _open_window(self, clock: int) -> None:
        self._traffic = self._traffic + _UNIT * self._proven
        if self._at and clock > self._at:
            self._traffic = self._traffic * _MEMORY_MS // (_MEMORY_MS + clock - self._at)
        self._at, self._proven = clock, 0
        share, floor = self._limits.item_share, self._limits.item_floor
        length = int(floor / share * _MEMORY_MS * _UNIT / self._traffic) if self._traffic else 0
        length = max(min(length, _LONGEST_MS), self._limits.item_window)
        self._begin, self._end = clock, clock + length
        usual = length * self._traffic / (_MEMORY_MS * _UNIT)
        self._floor, self._new_floor = max(floor, int(share * usual)), self._limits.new_floor
        self._new_floor = max(self._new_floor, int(self._limits.new_share * usual))
        self._total = self._new = 0
        self._items.clear()
        self._sessions.clear()

    def state(self) -> dict[str, np.ndarray]:
        numbers = (
            self._traffic, self._at, self._begin, self._end, self._floor, self._total, self._proven, self._new,
            self._new_floor,
        )  # fmt: skip
        visits = [(session, key) for session, keys in self._sessions.items() for key in keys]
        return {
            "traffic": np.array(numbers, dtype=np.int64),
            "flood_sessions": np.array([session for session, _ in visits], dtype=np.uint64),
            "flood_items": np.array([key for _, key in visits], dtype=np.uint32),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        (
            self._traffic, self._at, self._begin, self._end, self._floor, self._total, self._proven, self._new,
            self._new_floor,
        ) = state["traffic"].tolist()  # fmt: skip
        for session, key in zip(state["flood_sessions"].tolist(), state["flood_items"].tolist(), strict=True):
            self._sessions.setdefault(session, []).append(key)
            self._items[key] += 1


def _key(item: int | str) -> int:
    return crc32(str(item).encode("utf-8", "surrogatepass"))


class CrowdGuard:
    """Applies `pair_floor` and `pair_share`: sessions that bring two items together are a share of those with either.

    A visit is a session's first click on an item. A visit to b by a session with a is learned while

        sessions with a and b  <  max(pair_floor, period / 1,000, pair_share * min(visits of a, visits of b))

    of what was learned in about the last two periods: counts are halved after every period. A period is as many visits
    as a day of the training had, at most `_MAX_PERIOD`. Pairs are counted in two hashed rows, of which the lower
    counts. visits: uint32[N], of each item to begin with. reach: the latest items of a session that the next one is
    paired with.
    """

    def __init__(self, limits: LearningLimits, visits: np.ndarray, period: int, reach: int = 40) -> None:
        self._limits, self._period, self._count, self._reach = limits, period, 0, reach
        self._floor = max(limits.pair_floor, period // _FEW)
        self._visits = array("I", visits.tobytes())
        self._total, self._halved_at = int(visits.sum()), -1
        self._pairs = bytearray(2 * _CELLS)

    def usual(self, items: Sequence[int]) -> tuple[list[float], float]:
        """Return the share of each item in all visits, -1 for an internal id below 0, and the visits of a day."""
        visits, total = self._visits, max(self._total, 1)
        shares = [-1.0 if item < 0 else visits[item] / total if item < len(visits) else 0.0 for item in items]
        return shares, float(self._period)

    def admits(self, item: int, others: Sequence[int], clock: int, trusted: bool = False) -> bool:
        """Count a session's first click on an item, unless it must not be learned; return whether it is learned.

        others: the items of the session before it, the latest first. clock: of the log. trusted: it is learned.
        """
        visits, pairs, floor = self._visits, self._pairs, self._floor
        while item >= len(visits):
            visits.append(0)
        own_visits = visits[item]
        for index, other in enumerate(others[: self._reach]):
            low, high = (item, other) if item < other else (other, item)
            first_cell, second_cell = (
                (low * _A + high * _B) >> 9 & _LAST_CELL,
                _CELLS + ((low * _C + high * _D) >> 11 & _LAST_CELL),
            )
            first, second = pairs[first_cell], pairs[second_cell]
            if first >= floor and second >= floor and not trusted:
                limit = self._limits.pair_share * min(own_visits, visits[other])
                if first >= limit and second >= limit:
                    self._uncount_pairs(item, others[:index])
                    return False
            if first < _MAX_COUNT:
                pairs[first_cell] = first + 1
            if second < _MAX_COUNT:
                pairs[second_cell] = second + 1
        visits[item] = own_visits + 1
        self._total += 1
        self._count += 1
        if self._count >= self._period:
            self._halve(clock)
        return True

    def release(self, items: Sequence[int], last: int) -> None:
        """Uncount the visits of a session that is forgotten. items: in the order of its first clicks. last: the time of
        its last click; if counts were halved since, what is left of its visits stays: to take it whole would take of
        the others' visits."""
        if last <= self._halved_at:
            return
        visits = self._visits
        for index, item in enumerate(items):
            if item < len(visits) and visits[item]:
                visits[item] -= 1
                self._total -= 1
            self._uncount_pairs(item, items[max(index - self._reach, 0) : index])

    def _uncount_pairs(self, item: int, others: Sequence[int]) -> None:
        for other in others:
            low, high = (item, other) if item < other else (other, item)
            first_cell, second_cell = (
                (low * _A + high * _B) >> 9 & _LAST_CELL,
                (low * _C + high * _D) >> 11 & _LAST_CELL,
            )
            for cell in (first_cell, _CELLS + second_cell):
                if 0 < self._pairs[cell] < _MAX_COUNT:
                    self._pairs[cell] -= 1

    def _halve(self, clock: int) -> None:
        self._count, self._halved_at = 0, clock
        for counts in (np.frombuffer(self._visits, np.uint32), np.frombuffer(self._pairs, np.uint8)):
            np.right_shift(counts, 1, out=counts)
        self._total = int(np.frombuffer(self._visits, np.uint32).sum())

    def state(self) -> dict[str, np.ndarray]:
        pairs = np.frombuffer(bytes(self._pairs), np.uint8)
        cells = np.flatnonzero(pairs)
        return {
            "crowd": np.array([self._period, self._count, self._halved_at], dtype=np.int64),
            "visits": np.array(self._visits, dtype=np.uint32),
            "pair_cells": cells.astype(np.uint32),
            "pair_counts": pairs[cells],
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._period, self._count, self._halved_at = state["crowd"].tolist()
        self._floor = max(self._limits.pair_floor, self._period // _FEW)
        self._visits = array("I", state["visits"].tobytes())
        self._total = int(state["visits"].sum())
        pairs = np.zeros(2 * _CELLS, np.uint8)
        pairs[state["pair_cells"]] = state["pair_counts"]
        self._pairs = bytearray(pairs.tobytes())


class Guards:
    """Both guards of open visits. Trusted ones only count."""

    def __init__(self, model: Model, limits: LearningLimits) -> None:
        """Start from what the model stores, or from what it was trained on."""
        sessions = model.sessions
        lengths, span = sessions.lengths, 0
        if sessions.times is not None and len(sessions.times):
            span = int(sessions.times.max()) - int(sessions.times.min())
        counts = None if model.memory is None else model.memory.counts[:, COUNTS.index("sessions")]
        visited = np.zeros(model.n_items, np.int64) if counts is None else counts.astype(np.int64)
        days = span / DAY_MS if span else _MONTH
        total = max(int(visited.sum()), 1)
        proven = total * int(lengths[lengths > limits.fresh_visits].sum()) / max(sessions.n_clicks, 1)  # about
        period = int(min(max(total / max(days, 1.0), _MIN_PERIOD), _MAX_PERIOD))
        # Halved after every period, a count is twice that of a period.
        visits = np.minimum(visited, 2 * period * visited // total).astype(np.uint32)
        self.flood = FloodGuard(limits, proven / span if span else 0.0)
        self.crowd = CrowdGuard(limits, visits, period, model.memory.settings.span if model.memory is not None else 1)
        progress: LogProgress | None = model.log_progress
        if progress is not None and progress.guards:
            self.flood.restore(progress.guards)
            self.crowd.restore(progress.guards)

    def release(self, session: int, items: Sequence[int], last: int) -> None:
        """Uncount a session that is forgotten. session: its key. items, last: as of `CrowdGuard.release`."""
        self.flood.release(session)
        self.crowd.release(items, last)

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that `LogProgress.guards` stores."""
        return self.flood.state() | self.crowd.state()
