"""The features of a candidate: name and formula of each. `kernels/native/memory/features.hpp` has the same list.

In a formula x is the `Candidate`. The pair statistics are those of `MemoryTables`, divided by their row's total + 1 and
summed over the session's own items with weights: `_dec` is 0.8^back, normalized; `_all` is even; `_last` and `_prev`
are the latest item alone and the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import log1p

import numpy as np

from tests.memory.reference.candidates import Evidence, OwnItem, Query


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a query: its id, and the evidence for it."""

    query: Query
    evidence: Evidence
    id: int

    @property
    def own(self) -> OwnItem:
        """The candidate as an item of the session; only for only_own features."""
        assert self.evidence.own is not None
        return self.evidence.own


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of a candidate. value: its formula. only_own: it is 0 for candidates that are not in the session."""

    name: str
    value: Callable[[Candidate], float]
    only_own: bool = False


def log4(value: float) -> float:
    """Return log(value + 1e-4)."""
    return math.log(value + 1e-4)


def since(query: Query, session: int) -> float:
    """Return the age of a session as a share of all sessions; 1 for -1, no session."""
    return (query.tables.n_sessions - session) / (query.tables.n_sessions + 1)


def repeat_odds(x: Candidate, column: str) -> float:
    """Return the log-odds of p = (a count of repeats + 1) / (clicks + 10), p at most 0.999."""
    p = (x.query.count(x.id, column) + 1) / (x.query.count(x.id, "clicks") + 10)
    return math.log(p / (1 - min(p, 0.999)))


def streak(query: Query) -> int:
    """Return the number of clicks at the session's end that are on one item."""
    others = np.flatnonzero(query.clicks != query.clicks[-1])
    return len(query.clicks) - (int(others[-1]) + 1 if len(others) else 0)


def dense_position(query: Query, evidence: Evidence) -> int:
    """Return the candidate's position in the dense list from 0, the list's length if not there; 0 without a list."""
    if not query.has_dense:
        return 0
    return query.settings.dense if evidence.position is None else evidence.position


# Features of the query: the same for every candidate.
QUERY = (
    Feature("length", lambda x: log1p(len(x.query.clicks))),
    Feature("last_sessions", lambda x: log1p(x.query.count(x.query.own[0].item, "sessions"))),
    Feature("distinct", lambda x: log1p(len(x.query.own))),
    Feature("repeat_rate", lambda x: 1 - len(x.query.own) / len(x.query.clicks)),
)


def log_sum(name: str) -> Feature:
    """Return the logarithm of one of the candidate's sums."""
    return Feature(name, lambda x: log4(x.evidence.sums[name]))


CANDIDATE = (
    *map(log_sum, ("next_last", "next_dec", "fwd_dec", "fwd_last", "fwd_prev", "bwd_dec")),
    *map(log_sum, ("ses_dec", "ses_all", "ses_last")),
    # ses divided by the square roots of both items' totals + 1, where the others are divided by the row's total + 1.
    Feature("cos_dec", lambda x: log4(x.evidence.sums["cos_dec"] * x.query.root(x.id))),
    Feature("cos_all", lambda x: log4(x.evidence.sums["cos_all"] * x.query.root(x.id))),
    *map(log_sum, ("rec_dec", "rec_all", "aa_dec")),
    Feature("reached", lambda x: log1p(x.evidence.sums["reached"])),  # own items whose row contains it
    Feature("reach_near", lambda x: x.evidence.near),  # 1 / (1 + back) of the latest of them
    Feature("latest", lambda x: log4(since(x.query, x.evidence.latest))),  # the last session with it and one of them
    log_sum("second"),  # fwd times fwd, from the last item
    Feature("pre", lambda x: log4(x.query.pre_score(x.id))),
    Feature("clicks", lambda x: log1p(x.query.count(x.id, "clicks"))),
    Feature("sessions", lambda x: log1p(x.query.count(x.id, "sessions"))),
    Feature("newest", lambda x: log4(since(x.query, x.query.count(x.id, "newest")))),
    Feature("logit", lambda x: x.evidence.logit),
    Feature("logit_gap", lambda x: x.evidence.logit - x.query.best_logit),
    Feature("dense_rank", lambda x: log1p(dense_position(x.query, x.evidence))),
)
OWN = tuple(
    Feature(name, value, only_own=True)
    for name, value in {
        "own": lambda _: 1.0,
        "own_back": lambda x: log1p(x.own.back),
        "own_last": lambda x: float(x.own.back == 0),
        "own_count": lambda x: math.log(x.own.count),
        "own_share": lambda x: x.own.count / len(x.query.clicks),
        "own_later": lambda x: repeat_odds(x, "repeated_later"),
        "own_once": lambda x: 0.0 if x.own.back else repeat_odds(x, "repeated_at_once"),
        "own_next": lambda x: log1p(x.own.next),  # followed an earlier click on the last item
        "own_near": lambda x: log1p(x.own.near),  # was among the three clicks after one
        "own_first": lambda x: log1p(x.own.first),
        "own_gap": lambda x: 0.0 if x.own.gap is None else 1 / (1 + x.own.gap),
        "own_streak": lambda x: 0.0 if x.own.back else math.log(streak(x.query)),
        "own_rank": lambda x: 1 / (1 + x.query.own.index(x.own)),
    }.items()
)
FEATURES = QUERY + CANDIDATE + OWN
NAMES = tuple(feature.name for feature in FEATURES)


def quick_score(query: Query, item: int, trending: float) -> float:
    """Return the score that selects the candidates for the ranker, in a ranking with trends.

    trending: the pre-score by trends, 0 if trends do not propose the item.
    """
    evidence = query.items[item]
    lead = 0.0 if evidence.position is None else (query.settings.dense - evidence.position) / query.settings.dense
    return query.pre_score(item) + trending + 12 * evidence.sums["second"] + 0.1 * lead


def features(query: Query, candidates: list[int]) -> np.ndarray:
    """Return the features float64[C, F] of candidates among the query's items. Every item must have its logit."""
    values = np.zeros((len(candidates), len(FEATURES)))
    for row, item in enumerate(candidates):
        evidence = query.items[item]
        for column, feature in enumerate(FEATURES):
            if evidence.own is not None or not feature.only_own:
                values[row, column] = feature.value(Candidate(query, evidence, item))
    return values
