"""The features of a candidate: name and formula of each, in numpy; `kernels/native/memory/features.hpp` has the same.

In a formula, q is the query (`candidates.Query`), c the candidate's `candidates.Item` and i its id. The pair statistics are those of `MemoryTables`, divided by their row's total + 1, summed over
the session's own items with weights: `_dec` falls with the clicks back (0.8^back, normalised), `_all` is even, `_last`
and `_prev` are the latest item alone and the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import log1p

import numpy as np

from mtaw_fast.memory.candidates import Item, OwnItem, Query


@dataclass(frozen=True, slots=True)
class Feature:
    """value(q, c, i) is the feature; only_own: 0 for every candidate that is not in the session."""

    name: str
    value: Callable[[Query, Item, int], float]
    only_own: bool = False


def log4(value: float) -> float:
    """log(value + 1e-4)."""
    return math.log(value + 1e-4)


def log3(value: float) -> float:
    """log(value + 1e-3)."""
    return math.log(value + 1e-3)


def since(q: Query, session: int) -> float:
    """How long ago a session was, of all sessions: 1 for one that never was (-1)."""
    return (q.tables.n_sessions - session) / (q.tables.n_sessions + 1)


def similar(q: Query, c: Item, name: str) -> float:
    """The sum's share of the largest one over all that was met."""
    return c.sums[name] / q.largest[name] if q.largest[name] else 0.0


def log_odds(hits: int, clicks: int) -> float:
    """The log-odds of p = (hits + 1) / (clicks + 10), p at most 0.999."""
    p = (hits + 1) / (clicks + 10)
    return math.log(p / (1 - min(p, 0.999)))


def own_of(c: Item) -> OwnItem:
    """The candidate as an own item; only_own features are asked of no others."""
    assert c.own is not None
    return c.own


def own(name: str, value: Callable[[Query, OwnItem, int], float]) -> Feature:
    """A feature of own items."""
    return Feature(name, lambda q, c, i: value(q, own_of(c), i), only_own=True)


def streak(q: Query) -> int:
    """Clicks at the session's end that are on one item."""
    others = np.flatnonzero(q.clicks != q.clicks[-1])
    return len(q.clicks) - (int(others[-1]) + 1 if len(others) else 0)


def dense_place(q: Query, c: Item) -> int:
    """The candidate's place in the dense list from 0 on, the list's length where it is not in it; 0 without a list."""
    if not q.has_dense:
        return 0
    return q.settings.dense if c.place is None else c.place


# The query's own: the same for every candidate.
QUERY = (
    Feature("length", lambda q, c, i: log1p(len(q.clicks))),
    Feature("last_sessions", lambda q, c, i: log1p(q.count(q.own[0].item, "sessions"))),
    Feature("distinct", lambda q, c, i: log1p(len(q.own))),
    Feature("repeat_rate", lambda q, c, i: 1 - len(q.own) / len(q.clicks)),
    Feature("knn_max", lambda q, c, i: log1p(q.largest["knn"])),
)
CANDIDATE = (
    Feature("next_last", lambda q, c, i: log4(c.sums["next_last"])),
    Feature("next_dec", lambda q, c, i: log4(c.sums["next_dec"])),
    Feature("fwd_dec", lambda q, c, i: log4(c.sums["fwd_dec"])),
    Feature("fwd_last", lambda q, c, i: log4(c.sums["fwd_last"])),
    Feature("fwd_prev", lambda q, c, i: log4(c.sums["fwd_prev"])),
    Feature("bwd_dec", lambda q, c, i: log4(c.sums["bwd_dec"])),
    Feature("ses_dec", lambda q, c, i: log4(c.sums["ses_dec"])),
    Feature("ses_all", lambda q, c, i: log4(c.sums["ses_all"])),
    Feature("ses_last", lambda q, c, i: log4(c.sums["ses_last"])),
    # ses, not divided by the row's total + 1 but by the root of both items' ones
    Feature("cos_dec", lambda q, c, i: log4(c.sums["cos_dec"] * q.root(i))),
    Feature("cos_all", lambda q, c, i: log4(c.sums["cos_all"] * q.root(i))),
    Feature("rec_dec", lambda q, c, i: log4(c.sums["rec_dec"])),
    Feature("rec_all", lambda q, c, i: log4(c.sums["rec_all"])),
    Feature("aa_dec", lambda q, c, i: log4(c.sums["aa_dec"])),
    Feature("reached", lambda q, c, i: log1p(c.sums["reached"])),  # own items whose row holds it
    Feature("reach_near", lambda q, c, i: c.near),  # 1 / (1 + back) of the latest of them
    Feature("latest", lambda q, c, i: log4(since(q, c.latest))),  # session that holds it together with one of them
    Feature("second", lambda q, c, i: log4(c.sums["second"])),  # fwd times fwd, from the last item
    Feature("knn", lambda q, c, i: log3(similar(q, c, "knn"))),
    Feature("knn_fresh", lambda q, c, i: log3(similar(q, c, "knn_fresh"))),
    Feature("knn_near", lambda q, c, i: log3(similar(q, c, "knn_near"))),
    Feature("knn_after", lambda q, c, i: log3(similar(q, c, "knn_after"))),
    Feature("knn_next", lambda q, c, i: log3(similar(q, c, "knn_next"))),
    Feature("pre", lambda q, c, i: log4(q.pre_score(i))),
    Feature("clicks", lambda q, c, i: log1p(q.count(i, "clicks"))),
    Feature("sessions", lambda q, c, i: log1p(q.count(i, "sessions"))),
    Feature("newest", lambda q, c, i: log4(since(q, q.count(i, "newest")))),
    Feature("logit", lambda q, c, i: c.logit),
    Feature("logit_gap", lambda q, c, i: c.logit - q.best_logit),
    Feature("dense_rank", lambda q, c, i: log1p(dense_place(q, c))),
)
OWN = (
    own("own", lambda q, o, i: 1.0),
    own("own_back", lambda q, o, i: log1p(o.back)),
    own("own_last", lambda q, o, i: float(o.back == 0)),
    own("own_count", lambda q, o, i: math.log(o.count)),
    own("own_share", lambda q, o, i: o.count / len(q.clicks)),
    own("own_later", lambda q, o, i: log_odds(q.count(i, "repeated_later"), q.count(i, "clicks"))),
    own(
        "own_once",
        lambda q, o, i: 0.0 if o.back else log_odds(q.count(i, "repeated_at_once"), q.count(i, "clicks")),
    ),
    own("own_next", lambda q, o, i: log1p(o.next)),  # followed an earlier click on the last item
    own("own_near", lambda q, o, i: log1p(o.near)),  # was among the three clicks after one
    own("own_first", lambda q, o, i: log1p(o.first)),
    own("own_gap", lambda q, o, i: 0.0 if o.gap is None else 1 / (1 + o.gap)),
    own("own_streak", lambda q, o, i: 0.0 if o.back else math.log(streak(q))),
    own("own_rank", lambda q, o, i: 1 / (1 + q.own.index(o))),
)
FEATURES = QUERY + CANDIDATE + OWN
NAMES = tuple(feature.name for feature in FEATURES)


def features(q: Query, candidates: list[int]) -> np.ndarray:
    """float64[C, F] of some of the query's items; every logit must have been set."""
    q.best_logit = max((q.items[item].logit for item in candidates), default=0.0)
    values = np.zeros((len(candidates), len(FEATURES)))
    for row, item in enumerate(candidates):
        found = q.items[item]
        for column, feature in enumerate(FEATURES):
            if found.own is not None or not feature.only_own:
                values[row, column] = feature.value(q, found, item)
    return values
