"""Trends in plain Python: tables that equal the native ones to the bit, and queries by the definitions.

`OnlineTrends` stores only sessions: it answers every query from all clicks, added up in the order of time. The native
side must agree with it also for late clicks, forgotten sessions, and clicks before a t0 that has moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.kernels.native.trend_tables import ITEM_LANES, PAIR_LANES
from mtaw_fast.memory.bfloat16 import to_bfloat16
from mtaw_fast.memory.constants import FIRST_PAIR_LANE, NEVER, NEVER_AGE, PRE_LANES, STALE
from mtaw_fast.memory.trends import TrendSettings, TrendTables

SERIES = tuple(
    float.fromhex(power)
    for power in (
        "0x1.816193166d0f9p-40", "0x1.c3bd650fc2986p-36", "0x1.e8cac7351bb25p-32", "0x1.e4cf5158b8ecap-28",
        "0x1.b5253d395e7c4p-24", "0x1.62c0223a5c824p-20", "0x1.ffcbfc588b0c7p-17", "0x1.430912f86c787p-13",
        "0x1.5d87fe78a6731p-10", "0x1.3b2ab6fba4e77p-7", "0x1.c6b08d704a0c0p-5", "0x1.ebfbdff82c58fp-3",
        "0x1.62e42fefa39efp-1", "0x1p+0",
    )
)  # fmt: skip

Click = tuple[int, int]  # time, item
MAX_COUNTED = 3  # clicks of a session on one item, where it counts a pair once


def decay_power(ms: int, half_life: int) -> float:
    """Return 2^(ms / half_life) as the native side computes it, to the bit."""
    exponent, remainder = divmod(ms, half_life)
    if 2 * remainder > half_life:
        exponent, remainder = exponent + 1, remainder - half_life
    if exponent < -600:
        return 0.0
    x = remainder / half_life
    power = SERIES[0]
    for factor in SERIES[1:]:
        power = power * x + factor
    return math.ldexp(power, min(exponent, 600))


@dataclass
class Sums:
    """Decayed sums of some sessions, each lane relative to its own time t0. A lane is a half-life.

    epochs: each lane's t0, in half-lives.
    """

    settings: TrendSettings
    epochs: list[int]
    counts: dict[int, np.ndarray] = field(default_factory=dict)  # float64[14] an item
    times: dict[int, tuple[int, int]] = field(default_factory=dict)
    pairs: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)  # float64[10] an ordered pair
    totals: dict[int, np.ndarray] = field(default_factory=dict)  # float64[10] an item
    all: np.ndarray = field(default_factory=lambda: np.zeros(2 * ITEM_LANES))

    def weights(self, time: int) -> np.ndarray:
        """Return float64[7]: the weight of a click at `time` in each lane."""
        half_lives = self.settings.half_lives_ms
        return np.array([decay_power(time - e * h, h) for e, h in zip(self.epochs, half_lives, strict=True)])

    def add(self, sessions: list[list[Click]], once_from: int | None = None) -> None:
        """Add every session's clicks: ordered by time within a session (ties as given), then over all sessions.

        once_from: the index of the first session that counts a pair once.
        """
        events = []
        for number, session in enumerate(sessions):
            clicks = sorted(session, key=lambda click: click[0])
            paired = clicks
            if once_from is not None and number >= once_from:
                paired = firsts(clicks)
            for position, (time, item) in enumerate(clicks):
                first, last = self.times.get(item, (time, time))
                self.times[item] = min(first, time), max(last, time)
                before = sum(other == item for _, other in clicks[:position])
                if paired is clicks:
                    events.append((time, number, position, item, position, paired))
                elif before < MAX_COUNTED:
                    paired_position = [other for _, other in paired].index(item)
                    events.append((time, number, position, item, paired_position, paired if before == 0 else []))
        events.sort(key=lambda event: event[:3])
        for time, _, position, item, paired_position, paired in events:
            self._add_click(time, position, item)
            if paired:
                self._add_pairs(time, paired_position, paired)

    def _add_click(self, time: int, position: int, item: int) -> None:
        weights = self.weights(time)
        lanes = np.concatenate([weights, weights if position > 0 else np.zeros(ITEM_LANES)])
        self.counts[item] = self.counts.get(item, np.zeros(2 * ITEM_LANES)) + lanes
        self.all = self.all + lanes

    def _add_pairs(self, time: int, position: int, clicks: list[Click]) -> None:
        """Add the pairs of the click at `position` with the clicks before it, up to `window` of them."""
        weights, item = self.weights(time)[FIRST_PAIR_LANE:], clicks[position][1]
        before = clicks[max(0, position - self.settings.window) : position]
        near = [(len(before) - place, other) for place, (_, other) in enumerate(before) if other != item]
        # In the order of the native rows: bwd before fwd, bwd from the furthest click to the nearest.
        for distance, other in near:
            self._add_pair(item, other, PAIR_LANES, weights * (1.0 / distance))
        for distance, other in reversed(near):
            self._add_pair(other, item, 0, weights * (1.0 / distance))

    def _add_pair(self, item: int, neighbor: int, lane: int, part: np.ndarray) -> None:
        values = self.pairs.setdefault(item, {}).setdefault(neighbor, np.zeros(2 * PAIR_LANES))
        total = self.totals.setdefault(item, np.zeros(2 * PAIR_LANES))
        values[lane : lane + PAIR_LANES] += part
        total[lane : lane + PAIR_LANES] += part


def firsts(clicks: list[Click]) -> list[Click]:
    """Return a session's first click on each item."""
    return [click for position, click in enumerate(clicks) if click[1] not in (item for _, item in clicks[:position])]


def rounded(sums: np.ndarray) -> np.ndarray:
    """Return sums float64[..] as the tables store them: float32, 0 below 2^-50."""
    return np.where(sums < 2.0**-50, 0, sums).astype(np.float32)


def build(
    sessions: list[list[Click]], n_items: int, settings: TrendSettings, once_from: int | None = None
) -> TrendTables:
    """Return what `TrendTables.build` does, to the bit."""
    half_lives = settings.half_lives_ms
    newest = max((time for session in sessions for time, _ in session), default=0)
    sums = Sums(settings, [newest // h for h in half_lives])
    sums.add(sessions, once_from)
    to_newest = np.array([decay_power(e * h - newest, h) for e, h in zip(sums.epochs, half_lives, strict=True)])
    offsets, neighbors, values = [0], [], []
    for item in range(n_items):
        row = sums.pairs.get(item, {})
        strength = {b: _strength(v, sums.totals[item], to_newest[FIRST_PAIR_LANE:]) for b, v in row.items()}
        strongest = sorted(row, key=lambda b: (-strength[b], b))[: settings.max_neighbors or None]
        neighbors += strongest
        values += [to_bfloat16(rounded(row[b])) for b in strongest]
        offsets.append(len(neighbors))
    zeros = np.zeros(2 * ITEM_LANES), np.zeros(2 * PAIR_LANES)
    return TrendTables(
        row_offsets=np.array(offsets, np.int64),
        neighbors=np.array(neighbors, np.int32),
        values=np.array(values, np.uint16).reshape(-1, 2 * PAIR_LANES),
        totals=rounded(np.array([sums.totals.get(i, zeros[1]) for i in range(n_items)]).reshape(n_items, -1)),
        counts=rounded(np.array([sums.counts.get(i, zeros[0]) for i in range(n_items)]).reshape(n_items, -1)),
        times=np.array([sums.times.get(i, (NEVER, NEVER)) for i in range(n_items)], np.int64).reshape(n_items, 2),
        sums=sums.all,
        clock=np.array([*sums.epochs, newest], np.int64),
        settings=settings,
    )


def _strength(values: np.ndarray, totals: np.ndarray, to_now: np.ndarray) -> float:
    strength = 0.0
    for lane in range(PAIR_LANES):
        both = values[lane] + values[PAIR_LANES + lane]
        total = totals[lane] + totals[PAIR_LANES + lane]
        strength += float(both * to_now[lane] / (total * to_now[lane] + 1.0))
    return strength


@dataclass
class OnlineTrends:
    """Tables and later sessions. A forgotten session leaves no trace in any result."""

    tables: TrendTables
    once: bool = False  # whether new sessions count a pair once
    sessions: dict[int, list[Click]] = field(default_factory=dict)
    forgotten: list[list[Click]] = field(default_factory=list)  # sessions of the tables
    remaining: TrendTables | None = None  # built without `forgotten`, with the clock of `tables`

    def click(self, handle: int, item: int, time: int) -> None:
        """Add a click."""
        self.sessions.setdefault(handle, []).append((time, item))

    def forget(self, handle: int) -> None:
        """Remove a session."""
        del self.sessions[handle]

    def forget_in_tables(self, clicks: list[Click], remaining: TrendTables) -> None:
        """Remove a session of the tables. remaining: tables built without the forgotten sessions."""
        self.forgotten.append(clicks)
        self.remaining = remaining

    @property
    def seen(self) -> list[Click]:
        """All clicks since the tables."""
        return [click for session in self.sessions.values() for click in session]

    def tables_of(self, item: int) -> TrendTables:
        """Return the tables that have the item's row: `remaining` for an item of a forgotten session."""
        is_rebuilt = any(item == clicked for session in self.forgotten for _, clicked in session)
        return self.remaining if is_rebuilt and self.remaining is not None else self.tables

    @property
    def newest(self) -> int:
        """The time of the newest click."""
        return max([int(self.tables.clock[-1]), *(time for time, _ in self.seen)])

    def at(self, now: int) -> Moment:
        """Return all sums at the time `now`, or at that of the newest click if that is later."""
        return Moment(self, max(now, self.newest), now)

    def ranked_at(self, now: int) -> Moment:
        """Return the sums of a ranking at the time `now`: at most `STALE` ms after the newest click."""
        return Moment(self, min(max(now, self.newest), self.newest + STALE), now)


class Moment:
    """Decayed sums at one moment. Arrays are float64; items without clicks have zeros."""

    def __init__(self, online: OnlineTrends, now: int, requested: int) -> None:
        settings, tables = online.tables.settings, online.tables
        half_lives = settings.half_lives_ms
        self.now, self.requested, self.tables, self.seen = now, requested, tables, online.seen
        self.tables_of = online.tables_of
        # Relative to half-lives shortly before now, no weight is infinite.
        epochs = [now // h for h in half_lives]
        self.plus, self.minus = Sums(settings, epochs), Sums(settings, epochs)
        self.plus.add(list(online.sessions.values()), 0 if online.once else None)
        self.minus.add(online.forgotten)
        self.item_scale = np.array([decay_power(e * h - now, h) for e, h in zip(epochs, half_lives, strict=True)])
        self.base_scale = np.array(
            [decay_power(int(e) * h - now, h) for e, h in zip(tables.clock[:-1], half_lives, strict=True)]
        )
        self.pair_scale, self.base_pair_scale = (
            np.tile(s[FIRST_PAIR_LANE:], 2) for s in (self.item_scale, self.base_scale)
        )

    def counts(self, item: int) -> np.ndarray:
        """Return the decayed counts of an item: float64[14], all clicks and then later ones, by lane."""
        counts = self.plus.counts.get(item, 0.0) * np.tile(self.item_scale, 2)
        if item < self.tables.n_items:
            counts = counts + self.tables_of(item).counts[item] * np.tile(self.base_scale, 2)
        return counts

    def ages(self, item: int) -> tuple[float, float]:
        """Return the seconds since the first and the last click."""
        times = [time for time, clicked in self.seen if clicked == item]
        if item < self.tables.n_items:
            times += [time for time in self.tables_of(item).times[item].tolist() if time != NEVER]
        if not times:
            return 0.0, NEVER_AGE
        return min((self.now - min(times)) / 1e3, NEVER_AGE), min((self.now - max(times)) / 1e3, NEVER_AGE)

    def all(self) -> np.ndarray:
        """Return float64[14]: the counts of all items together."""
        recent = (self.plus.all - self.minus.all) * np.tile(self.item_scale, 2)
        return np.maximum(self.tables.sums * np.tile(self.base_scale, 2) + recent, 0)

    def row(self, item: int) -> dict[int, np.ndarray]:
        """Return the decayed pairs of an item: float64[10] by neighbor, fwd and then bwd by lane.

        These are all pairs, where native queries read the strongest `max_neighbors` of them.
        """
        row: dict[int, np.ndarray] = {}
        if item < self.tables.n_items:
            tables = self.tables_of(item)
            for p in range(tables.row_offsets[item], tables.row_offsets[item + 1]):
                values = (tables.values[p].astype(np.uint32) << 16).view(np.float32).astype(np.float64)
                row[int(tables.neighbors[p])] = values * self.base_pair_scale
        for neighbor, values in self.plus.pairs.get(item, {}).items():
            row[neighbor] = row.get(neighbor, 0.0) + values * self.pair_scale
        return row

    def totals(self, item: int) -> np.ndarray:
        """Return float64[10]: the sums of an item's pairs with all neighbors."""
        totals = self.plus.totals.get(item, 0.0) * self.pair_scale
        if item < self.tables.n_items:
            totals = totals + self.tables_of(item).totals[item] * self.base_pair_scale
        return totals

    def pre_scores(self, own: list[int]) -> dict[int, float]:
        """Return the part of the pre-score from pairs, by item."""
        scores: dict[int, float] = {}
        for position, item in enumerate(own):
            totals = self.totals(item)
            fwd, bwd = totals[:PAIR_LANES], totals[PAIR_LANES:]
            weights = 0.75**position * np.array(PRE_LANES) / (fwd + 0.5 * bwd + 2)
            for neighbor, values in self.row(item).items():
                part = float((weights * (values[:PAIR_LANES] + 0.5 * values[PAIR_LANES:])).sum())
                scores[neighbor] = scores.get(neighbor, 0.0) + part
        return scores

    def popularity(self, item: int) -> float:
        """Return the part of the pre-score from the item's own clicks."""
        counts, everything = self.counts(item), self.all()
        later, hour = ITEM_LANES + 2, 3
        return float(0.8 * counts[later] / (everything[later] + 1) + 0.3 * counts[hour] / (everything[hour] + 1))

    def query_features(self, own: list[int], times: list[int] | None) -> list[float]:
        """Return the features that are the same for all candidates."""
        gap = (times[-1] - times[-2]) / 1e3 if times and len(times) > 1 and min(times[-2:]) >= 0 else 0.0
        span = (times[-1] - times[0]) / 1e3 if times and min(times[0], times[-1]) >= 0 else 0.0
        counts, everything = self.counts(own[0]), self.all()
        hour = ITEM_LANES + 3
        pairs = sum(0.75**u * self.totals(i)[3] for u, i in enumerate(own))
        angle = self.requested / 3_600_000 % 24 * math.pi / 12
        return [
            math.log1p(max(gap, 0.0)), math.log1p(max(span, 0.0)), math.log1p(self.ages(own[0])[0] / 60),
            math.log((counts[hour] + 0.05) / (everything[hour] + 1)), math.log1p(self.totals(own[0])[1]),
            math.log1p(pairs), math.log1p(everything[ITEM_LANES + 2]), math.log1p(everything[5]),
            math.sin(angle), math.cos(angle),
        ]  # fmt: skip

    def features(self, own: list[int], times: list[int] | None, candidates: list[int]) -> np.ndarray:
        """Return float64[C, F]; own: distinct, the latest first, at most 10; times: of all clicks."""
        query, pre, everything = self.query_features(own, times), self.pre_scores(own), self.all()
        last, last_totals, rows = self.row(own[0]), self.totals(own[0]), [self.row(item) for item in own]
        own_totals = sum(0.75**u * self.totals(item) for u, item in enumerate(own))
        zeros = np.zeros(2 * PAIR_LANES)
        values = []
        for item in candidates:
            counts = self.counts(item)
            all_, later = counts[:ITEM_LANES], counts[ITEM_LANES:]
            per_all, per_later = everything[:ITEM_LANES] + 1, everything[ITEM_LANES:] + 1
            prior = 3 * (later[FIRST_PAIR_LANE:] + 0.02) / (everything[ITEM_LANES + FIRST_PAIR_LANE :] + 10)
            pair = np.maximum(last.get(item, zeros), 0)
            with_own = np.maximum(sum(0.75**u * row.get(item, zeros) for u, row in enumerate(rows)), 0)
            last_shares = np.log((pair + np.tile(prior, 2)) / (last_totals + 3))
            own_shares = np.log((with_own + np.tile(prior, 2)) / (own_totals + 3))
            first_age, last_age = self.ages(item)
            values.append([
                *query, *np.log((all_ + 0.05) / per_all)[1:6], *np.log((later + 0.05) / per_later)[1:6],
                *last_shares[:4], *last_shares[PAIR_LANES:][:4],
                *own_shares[[1, 3]], *own_shares[PAIR_LANES:][[1, 3]],
                math.log(max(pre.get(item, 0.0), 0.0) + self.popularity(item) + 1e-5),
                math.log1p(first_age / 60), math.log1p(last_age),
            ])  # fmt: skip
        return np.array(values)
