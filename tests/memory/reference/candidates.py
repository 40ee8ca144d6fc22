"""The candidates of the session memory in plain Python, as a reference for tests of the native queries.

A session leads to an item in three ways: the session contains it; past sessions contain it together with an item of the
session (rows of the tables, and rows of a row's neighbors); the dense index finds it. The evidence is summed per item
(`Evidence`); a pre-score then selects the candidates. "Back" counts clicks from the session's end: 0 is the last one.
All sums are float64 here and float32 in the native code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.kernels.native.memory_query import QuerySettings
from mtaw_fast.kernels.native.memory_tables import COUNTS, PAIR_KINDS
from mtaw_fast.memory.constants import DECAY, MAX_CLICKS, NEAR, STRONG, SUMS
from mtaw_fast.memory.tables import MemoryTables


@dataclass(slots=True)
class OwnItem:
    """A distinct item of the session.

    back, first: back of its latest and its earliest click. gap: between the latest two clicks, None with one click.
    next, near: how often it was the next click, or among the next three, after an earlier click on the last item.
    decayed: its share in the sum of 0.8^back over the clicks.
    """

    item: int
    back: int
    first: int
    count: int = 1
    gap: int | None = None
    next: int = 0
    near: int = 0
    decayed: float = 0.0


@dataclass(slots=True)
class Evidence:
    """The evidence for one item.

    latest: the last session with it and an own item, or -1. near: 1 / (1 + back) of the latest own item whose row
    contains it. position: in the dense list, from 0.
    """

    own: OwnItem | None = None
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))
    latest: int = -1
    near: float = 0.0
    position: int | None = None
    logit: float = 0.0


@dataclass(slots=True)
class Query:
    """One session against the tables.

    clicks: int32[m], the last 512. items: everything found, own items first. best_logit: the first logit of the dense
    list.
    """

    tables: MemoryTables
    settings: QuerySettings
    clicks: np.ndarray
    own: list[OwnItem]
    items: dict[int, Evidence]
    has_dense: bool
    best_logit: float = 0.0

    def count(self, item: int, name: str) -> int:
        """Return a column of the tables' counts; an item that they do not know was never clicked."""
        if item >= self.tables.n_items:
            return -1 if name == "newest" else 0
        return int(self.tables.counts[item, COUNTS.index(name)])

    def root(self, item: int) -> float:
        """Return 1 / sqrt(the item's total of `ses` + 1)."""
        known = item < self.tables.n_items
        return 1 / math.sqrt((float(self.tables.totals[item, _SES]) if known else 0.0) + 1)

    def pre_score(self, item: int) -> float:
        """Return the score that decides which other items become candidates."""
        sums = self.items[item].sums
        cosine = sums["cos_dec"] * self.root(item)
        return (
            sums["fwd_dec"] + sums["bwd_dec"] + sums["ses_all"] + sums["rec_all"] + 0.5 * (cosine + sums["next_last"])
        )

    def candidates(self, allowed: Callable[[int], bool] = lambda _: True) -> list[int]:
        """Return the allowed own items, the best others by pre-score (ties to the lower id), and the dense list."""
        own = [own_item.item for own_item in self.own if allowed(own_item.item)]
        others = [item for item, evidence in self.items.items() if evidence.own is None and allowed(item)]
        best = set(sorted(others, key=lambda item: (-self.pre_score(item), item))[: self.settings.others])
        return own + [item for item in others if item in best or self.items[item].position is not None]


def ranked_first(
    own: Iterable[int], quick: Mapping[int, float], limit: int, always: Container[int] = ()
) -> tuple[set[int], list[int]]:
    """Return the candidates that get the ranker's score, and the others in the order in which they follow.

    own: candidates of the session. quick: the quick score of each other one. most: how many of these get it, 0 for all.
    always: items that get it whatever their quick score.
    """
    order = sorted(quick, key=lambda item: (-quick[item], item))
    first = {*own, *order[: limit or None], *(item for item in order if item in always)}
    return first, [item for item in order if item not in first]


_SES, _FWD = PAIR_KINDS.index("ses"), PAIR_KINDS.index("fwd")


def query(
    tables: MemoryTables,
    clicks: np.ndarray,
    settings: QuerySettings | None = None,
    dense: tuple[np.ndarray, np.ndarray] | None = None,
) -> Query:
    """Sum up the evidence for a session: clicks int32[m], m >= 1; dense: (ids int32[D], logits float32[D])."""
    settings = settings or QuerySettings()
    clicks = clicks[-MAX_CLICKS:]
    own = own_items(clicks.tolist(), settings.own)
    items = {own_item.item: Evidence(own_item) for own_item in own}
    result = Query(tables, settings, clicks, own, items, dense is not None)
    _add_neighbors(result)
    _add_second(result)
    if dense is not None:
        result.best_logit = float(dense[1][0]) if len(dense[0]) and dense[0][0] >= 0 else 0.0
        for position, (item, logit) in enumerate(zip(dense[0].tolist(), dense[1].tolist(), strict=True)):
            if item >= 0 and position < settings.dense:
                evidence = items.setdefault(item, Evidence())
                evidence.position, evidence.logit = position, logit
    return result


def own_items(clicks: list[int], limit: int) -> list[OwnItem]:
    """Return the latest `limit` distinct items, the latest first."""
    own: dict[int, OwnItem] = {}
    for back, item in enumerate(reversed(clicks)):
        weight = DECAY**back
        if item not in own:
            if len(own) == limit:
                continue
            own[item] = OwnItem(item, back, back, decayed=weight)
            continue
        entry = own[item]
        entry.gap = back - entry.back if entry.gap is None else entry.gap
        entry.count, entry.first, entry.decayed = entry.count + 1, back, entry.decayed + weight
    total = sum(own_item.decayed for own_item in own.values())
    for entry in own.values():
        entry.decayed /= total
    for t, item in enumerate(clicks[:-1]):
        if item == clicks[-1]:
            for after, follower in enumerate(clicks[t + 1 : t + 1 + NEAR]):
                if follower in own:
                    own[follower].next += after == 0
                    own[follower].near += 1
    return list(own.values())


def _row(tables: MemoryTables, item: int) -> tuple[list[int], np.ndarray, list[int]]:
    """Return the neighbors of an item, their values float64[.., 6], and the latest common sessions."""
    if item >= tables.n_items:
        return [], np.empty((0, len(PAIR_KINDS))), []
    row = slice(tables.row_offsets[item], tables.row_offsets[item + 1])
    values = (tables.values[row].astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return tables.neighbors[row].tolist(), values, tables.latest[row].tolist()


def _add_neighbors(query: Query) -> None:
    tables = query.tables
    assert tables.settings.recency is not None
    for position, own in enumerate(query.own):
        neighbors, values, latest = _row(tables, own.item)
        if not neighbors:
            continue
        age = tables.n_sessions - 1 - query.count(own.item, "newest")
        freshness = math.exp(-age / tables.settings.recency)
        aged = np.array([1, 1, 1, 1, 1, freshness])  # `rec` has decayed since the row's newest session
        shares = values * aged / (tables.totals[own.item].astype(np.float64) * aged + 1)
        weights = {"dec": own.decayed, "all": 1 / len(query.own), "last": position == 0, "prev": position == 1}
        for neighbor, value, share, session in zip(neighbors, values, shares, latest, strict=True):
            evidence = query.items.setdefault(neighbor, Evidence())
            evidence.latest = max(evidence.latest, session)
            evidence.near = max(evidence.near, 1 / (1 + own.back))
            kinds = dict(zip(PAIR_KINDS, share.tolist(), strict=True)) | {"cos": value[_SES] * query.root(own.item)}
            for name in SUMS:
                kind, _, weight = name.partition("_")
                if weight:
                    evidence.sums[name] += weights[weight] * kinds[kind]
            evidence.sums["reached"] += 1


def _add_second(query: Query) -> None:
    """Add neighbors of the last item's strongest neighbors: fwd times fwd."""
    first = _fwd_shares(query.tables, query.own[0].item)
    for middle, share in first:
        for neighbor, second in _fwd_shares(query.tables, middle) if share else ():
            query.items.setdefault(neighbor, Evidence()).sums["second"] += share * second


def _fwd_shares(tables: MemoryTables, item: int) -> list[tuple[int, float]]:
    neighbors, values, _ = _row(tables, item)
    total = float(tables.totals[item, _FWD]) + 1 if neighbors else 1.0
    shares = (values[:STRONG, _FWD] / total).tolist()
    return list(zip(neighbors[:STRONG], shares, strict=True))
