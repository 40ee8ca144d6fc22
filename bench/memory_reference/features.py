"""The features of a candidate: name and formula of each. `kernels/native/memory/features.hpp` has the same list.

In a formula x.q is the query, x.c the evidence for the candidate, x.own the candidate as an item of the session, x.id
its id. The pair statistics are those of `MemoryTables`, divided by their row's total + 1 and summed over the session's
own items with weights: `_dec` is 0.8^back, normalized; `_all` is even; `_last` and `_prev` are the latest item alone
and the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import log1p

import numpy as np

from bench.memory_reference.candidates import Item, OwnItem, Query

_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)  # the smallest normal number


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a query."""

    q: Query
    c: Item
    id: int

    @property
    def own(self) -> OwnItem:
        """The candidate as an item of the session; only for only_own features."""
        assert self.c.own is not None
        return self.c.own


@dataclass(frozen=True, slots=True)
class Feature:
    """value(x) is the feature of a candidate. only_own: 0 for candidates that are not in the session."""

    name: str
    value: Callable[[Candidate], float]
    only_own: bool = False


def log4(value: float) -> float:
    """Return log(value + 1e-4)."""
    return math.log(value + 1e-4)


def log3(value: float) -> float:
    """Return log(value + 1e-3)."""
    return math.log(value + 1e-3)


def since(q: Query, session: int) -> float:
    """Return the age of a session as a share of all sessions; 1 for -1, no session."""
    return (q.tables.n_sessions - session) / (q.tables.n_sessions + 1)


def similar(q: Query, c: Item, name: str) -> float:
    """Return the sum's share of the largest one; 0 if that is too small for float32."""
    return c.sums[name] / q.largest[name] if q.largest[name] >= _SMALLEST_NORMAL else 0.0


def log_odds(hits: int, clicks: int) -> float:
    """Return the log-odds of p = (hits + 1) / (clicks + 10), p at most 0.999."""
    p = (hits + 1) / (clicks + 10)
    return math.log(p / (1 - min(p, 0.999)))


def own(name: str, value: Callable[[Candidate], float]) -> Feature:
    """Return a feature of own items."""
    return Feature(name, value, only_own=True)


def streak(q: Query) -> int:
    """Return the number of clicks at the session's end that are on one item."""
    others = np.flatnonzero(q.clicks != q.clicks[-1])
    return len(q.clicks) - (int(others[-1]) + 1 if len(others) else 0)


def dense_place(q: Query, c: Item) -> int:
    """Return the candidate's place in the dense list from 0, the list's length if it is not in it; 0 without a list."""
    if not q.has_dense:
        return 0
    return q.settings.dense if c.place is None else c.place


# Features of the query: the same for every candidate.
QUERY = (
    Feature("length", lambda x: log1p(len(x.q.clicks))),
    Feature("last_sessions", lambda x: log1p(x.q.count(x.q.own[0].item, "sessions"))),
    Feature("distinct", lambda x: log1p(len(x.q.own))),
    Feature("repeat_rate", lambda x: 1 - len(x.q.own) / len(x.q.clicks)),
    Feature("knn_max", lambda x: log1p(x.q.largest["knn"])),
)
CANDIDATE = (
    Feature("next_last", lambda x: log4(x.c.sums["next_last"])),
    Feature("next_dec", lambda x: log4(x.c.sums["next_dec"])),
    Feature("fwd_dec", lambda x: log4(x.c.sums["fwd_dec"])),
    Feature("fwd_last", lambda x: log4(x.c.sums["fwd_last"])),
    Feature("fwd_prev", lambda x: log4(x.c.sums["fwd_prev"])),
    Feature("bwd_dec", lambda x: log4(x.c.sums["bwd_dec"])),
    Feature("ses_dec", lambda x: log4(x.c.sums["ses_dec"])),
    Feature("ses_all", lambda x: log4(x.c.sums["ses_all"])),
    Feature("ses_last", lambda x: log4(x.c.sums["ses_last"])),
    # ses, not divided by the row's total + 1 but by the root of both items' ones
    Feature("cos_dec", lambda x: log4(x.c.sums["cos_dec"] * x.q.root(x.id))),
    Feature("cos_all", lambda x: log4(x.c.sums["cos_all"] * x.q.root(x.id))),
    Feature("rec_dec", lambda x: log4(x.c.sums["rec_dec"])),
    Feature("rec_all", lambda x: log4(x.c.sums["rec_all"])),
    Feature("aa_dec", lambda x: log4(x.c.sums["aa_dec"])),
    Feature("reached", lambda x: log1p(x.c.sums["reached"])),  # own items whose row contains it
    Feature("reach_near", lambda x: x.c.near),  # 1 / (1 + back) of the latest of them
    Feature("latest", lambda x: log4(since(x.q, x.c.latest))),  # the last session with it and one of them
    Feature("second", lambda x: log4(x.c.sums["second"])),  # fwd times fwd, from the last item
    Feature("knn", lambda x: log3(similar(x.q, x.c, "knn"))),
    Feature("knn_fresh", lambda x: log3(similar(x.q, x.c, "knn_fresh"))),
    Feature("knn_near", lambda x: log3(similar(x.q, x.c, "knn_near"))),
    Feature("knn_after", lambda x: log3(similar(x.q, x.c, "knn_after"))),
    Feature("knn_next", lambda x: log3(similar(x.q, x.c, "knn_next"))),
    Feature("pre", lambda x: log4(x.q.pre_score(x.id))),
    Feature("clicks", lambda x: log1p(x.q.count(x.id, "clicks"))),
    Feature("sessions", lambda x: log1p(x.q.count(x.id, "sessions"))),
    Feature("newest", lambda x: log4(since(x.q, x.q.count(x.id, "newest")))),
    Feature("logit", lambda x: x.c.logit),
    Feature("logit_gap", lambda x: x.c.logit - x.q.best_logit),
    Feature("dense_rank", lambda x: log1p(dense_place(x.q, x.c))),
)
OWN = (
    own("own", lambda _: 1.0),
    own("own_back", lambda x: log1p(x.own.back)),
    own("own_last", lambda x: float(x.own.back == 0)),
    own("own_count", lambda x: math.log(x.own.count)),
    own("own_share", lambda x: x.own.count / len(x.q.clicks)),
    own("own_later", lambda x: log_odds(x.q.count(x.id, "repeated_later"), x.q.count(x.id, "clicks"))),
    own(
        "own_once",
        lambda x: 0.0 if x.own.back else log_odds(x.q.count(x.id, "repeated_at_once"), x.q.count(x.id, "clicks")),
    ),
    own("own_next", lambda x: log1p(x.own.next)),  # followed an earlier click on the last item
    own("own_near", lambda x: log1p(x.own.near)),  # was among the three clicks after one
    own("own_first", lambda x: log1p(x.own.first)),
    own("own_gap", lambda x: 0.0 if x.own.gap is None else 1 / (1 + x.own.gap)),
    own("own_streak", lambda x: 0.0 if x.own.back else math.log(streak(x.q))),
    own("own_rank", lambda x: 1 / (1 + x.q.own.index(x.own))),
)
FEATURES = QUERY + CANDIDATE + OWN
NAMES = tuple(feature.name for feature in FEATURES)


def quick_score(q: Query, item: int, trending: float) -> float:
    """Return what decides which candidates of a ranking with trends get a score of the ranker.

    trending: the pre-score of a candidate of the trends, 0 if it is none of theirs.
    """
    evidence = q.items[item]
    lead = 0.0 if evidence.place is None else (q.settings.dense - evidence.place) / q.settings.dense
    return q.pre_score(item) + trending + 12 * evidence.sums["second"] + 0.1 * (similar(q, evidence, "knn_near") + lead)


def features(q: Query, candidates: list[int]) -> np.ndarray:
    """Return float64[C, F] of some of the query's items; every logit must be set."""
    values = np.zeros((len(candidates), len(FEATURES)))
    for row, item in enumerate(candidates):
        evidence = q.items[item]
        for column, feature in enumerate(FEATURES):
            if evidence.own is not None or not feature.only_own:
                values[row, column] = feature.value(Candidate(q, evidence, item))
    return values
