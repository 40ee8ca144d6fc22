"""Every feature, computed by hand on a log of four sessions, for the reference and the native code."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, log1p, sqrt

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_query import Dense, SessionMemory, feature_names
from mtaw_fast.memory import MemorySettings, MemoryTables
from tests.memory.reference.candidates import QuerySettings, query
from tests.memory.reference.features import NAMES, features

A, B, C, D, E = range(5)
LOG = Sessions.from_lists([[A, B, C], [B, A], [A, C, B], [D, A, C, C]])  # E was never clicked
RECENCY = 2.0
TABLES = MemoryTables.build(LOG, 5, MemorySettings(recency=RECENCY))

# What the log says, by session and distance; the total of a row is over all of its neighbors.
#   row A (latest session 3)  with B               with C                      with D       total
#   next                      1 (s0)               2 (s2, s3)                  0            3
#   fwd                       1 + 1/2              1/2 + 1 + 1 + 1/2 = 3       0            4.5
#   bwd                       1 (s1)               0                           1 (s3)       2
#   ses                       3                    3                           1            7
#   aa                        1/2 + 1 + 1/2 = 2    1/2 + 1/2 + 1/2 = 1.5       1/2          4
#   row B (latest session 2)  with A               with C                                   total
#   next, fwd                 1 (s1)               1 (s0)                                   2
#   bwd                       1 + 1/2              1 (s2)                                   2.5
#   ses                       3                    2                                        5
#   aa                        2                    1                                        3
#   row C: fwd 0 but with itself, which is no pair; ses 3 with A, 2 with B, 1 with D: 6
REC_AB = exp(-3 / RECENCY) + exp(-2 / RECENCY) + 0.5 * exp(-1 / RECENCY)
REC_AC = 0.5 * exp(-3 / RECENCY) + exp(-1 / RECENCY) + 1.5
REC_A = REC_AB + REC_AC + 1  # and D's 1
REC_BA = exp(-2 / RECENCY) + exp(-1 / RECENCY) + 0.5
REC_BC = exp(-2 / RECENCY) + 1
AGED = exp(-1 / RECENCY)  # row B is one session old
REC_A_SHARE, REC_B_SHARE = REC_AC / (REC_A + 1), REC_BC * AGED / ((REC_BA + REC_BC) * AGED + 1)

# The session [B, A]: A is 0 back, B 1, so they weigh 1 and 0.8 of 1.8.
LAST, PREVIOUS = 5 / 9, 4 / 9
COS_DEC = (LAST * 3 / sqrt(8) + PREVIOUS * 2 / sqrt(6)) / sqrt(7)
COS_ALL = (3 / sqrt(8) + 2 / sqrt(6)) / 2 / sqrt(7)
FWD_DEC, BWD_DEC = LAST * 3 / 5.5 + PREVIOUS * 1 / 3, PREVIOUS * 1 / 3.5
SES_ALL, REC_ALL = (3 / 8 + 2 / 6) / 2, (REC_A_SHARE + REC_B_SHARE) / 2
PRE = FWD_DEC + BWD_DEC + SES_ALL + REC_ALL + 0.5 * (COS_DEC + 2 / 4)


def log4(value: float) -> float:
    return log(value + 1e-4)


# Candidates of [B, A] with the dense list C (logit 5), E (logit 4), of fifty places; A has logit 1, B -3.
SHORT = {
    "length": {C: log1p(2)},
    "last_sessions": {C: log1p(4)},
    "distinct": {C: log1p(2)},
    "repeat_rate": {C: 0.0},
    "next_last": {C: log4(2 / 4), B: log4(1 / 4), A: log4(0), E: log4(0)},
    "next_dec": {C: log4(LAST * 2 / 4 + PREVIOUS * 1 / 3)},
    "fwd_dec": {C: log4(FWD_DEC)},
    "fwd_last": {C: log4(3 / 5.5)},
    "fwd_prev": {C: log4(1 / 3)},
    "bwd_dec": {C: log4(BWD_DEC), D: log4(LAST * 1 / 3)},
    "ses_dec": {C: log4(LAST * 3 / 8 + PREVIOUS * 2 / 6)},
    "ses_all": {C: log4(SES_ALL)},
    "ses_last": {C: log4(3 / 8)},
    "cos_dec": {C: log4(COS_DEC)},
    "cos_all": {C: log4(COS_ALL)},
    "rec_dec": {C: log4(LAST * REC_A_SHARE + PREVIOUS * REC_B_SHARE)},
    "rec_all": {C: log4(REC_ALL)},
    "aa_dec": {C: log4(LAST * 1.5 / 5 + PREVIOUS * 1 / 4)},
    "reached": {C: log1p(2), A: log1p(1), E: 0.0},
    "reach_near": {C: 1.0, A: 1 / 2, E: 0.0},
    "latest": {C: log4((4 - 3) / 5), A: log4((4 - 2) / 5), E: log4((4 + 1) / 5)},
    "second": {C: log4(1.5 / 5.5 * 1 / 3), D: log4(0)},  # by way of B; C and D lead forward to nothing
    "pre": {C: log4(PRE), E: log4(0)},
    "clicks": {C: log1p(4), E: 0.0},
    "sessions": {C: log1p(3), E: 0.0},
    "newest": {C: log4((4 - 3) / 5), B: log4((4 - 2) / 5), E: log4((4 + 1) / 5)},
    "logit": {C: 5.0, E: 4.0, A: 1.0, B: -3.0},
    "logit_gap": {C: 0.0, E: -1.0, A: -4.0, B: -8.0},
    "dense_rank": {C: 0.0, E: log1p(1), A: log1p(50)},
    "own": {C: 0.0, A: 1.0, B: 1.0},
    "own_back": {C: 0.0, A: 0.0, B: log1p(1)},
    "own_last": {C: 0.0, A: 1.0, B: 0.0},
    "own_count": {A: 0.0, B: 0.0},
    "own_share": {C: 0.0, A: 1 / 2},
    "own_later": {C: 0.0, A: log((1 / 14) / (13 / 14)), B: log((1 / 13) / (12 / 13))},  # 4 and 3 clicks, none repeated
    "own_once": {C: 0.0, A: log((1 / 14) / (13 / 14)), B: 0.0},
    "own_next": {A: 0.0, B: 0.0},
    "own_near": {A: 0.0, B: 0.0},
    "own_first": {A: 0.0, B: log1p(1)},
    "own_gap": {A: 0.0, B: 0.0},
    "own_streak": {A: 0.0, B: 0.0},
    "own_rank": {C: 0.0, A: 1.0, B: 1 / 2},
}

# Candidates of [C, A, C, C]: C is 0 back, thrice there, A 2 back. Behind the earlier clicks on C come A, C, C, and C.
LONG = {
    "length": {C: log1p(4)},
    "last_sessions": {A: log1p(3)},
    "distinct": {A: log1p(2)},
    "repeat_rate": {A: 1 - 2 / 4},
    "own_back": {C: 0.0, A: log1p(2)},
    "own_count": {C: log(3), A: 0.0, B: 0.0},
    "own_share": {C: 3 / 4, A: 1 / 4},
    "own_later": {C: log((2 / 14) / (12 / 14))},  # one of four clicks was repeated, and at once
    "own_once": {C: log((2 / 14) / (12 / 14)), A: 0.0},
    "own_next": {C: log1p(1), A: log1p(1)},
    "own_near": {C: log1p(3), A: log1p(1)},
    "own_first": {C: log1p(3), A: log1p(2)},
    "own_gap": {C: 1 / 2, A: 0.0},
    "own_streak": {C: log(2), A: 0.0},
    "reach_near": {B: 1.0, A: 1.0, C: 1 / 3},
}

DENSE_IDS, DENSE_LOGITS = np.array([C, E], np.int32), np.array([5.0, 4.0], np.float32)
# The logit of item i is 2 * (query . row): the query looks along the first axis.
CATALOG = np.array([[0.5, 1], [-1.5, 0], [2.5, 0], [0, 2], [2, 0]], np.float32)
QUERY = np.array([[1.0, 0.0]], np.float32)


def by_reference(clicks: list[int]) -> tuple[list[int], np.ndarray]:
    reference_query = query(TABLES, np.array(clicks, np.int32), QuerySettings(), (DENSE_IDS, DENSE_LOGITS))
    candidates = reference_query.candidates()
    for item in candidates:
        reference_query.items[item].logit = float(2 * (QUERY[0] @ CATALOG[item]))
    return candidates, features(reference_query, candidates)


def by_native(clicks: list[int]) -> tuple[list[int], np.ndarray]:
    memory = SessionMemory(TABLES.arrays(), RECENCY, 5)
    dense = Dense(QUERY, DENSE_IDS[None], DENSE_LOGITS[None], CATALOG, 2.0)
    ids, values = memory.features(np.array(clicks, np.int32), np.array([0]), np.array([len(clicks)]), dense)
    count = int((ids >= 0).sum())
    return ids[0, :count].tolist(), values[0, :count]


def test_names() -> None:
    assert feature_names() == NAMES
    assert set(SHORT) == set(NAMES)


@pytest.mark.parametrize("clicks_and_table", [([B, A], SHORT), ([C, A, C, C], LONG)], ids=["short", "long"])
@pytest.mark.parametrize("source", [by_reference, by_native])
def test_by_hand(
    source: Callable[[list[int]], tuple[list[int], np.ndarray]],
    clicks_and_table: tuple[list[int], dict[str, dict[int, float]]],
) -> None:
    clicks, table = clicks_and_table
    candidates, values = source(clicks)
    assert sorted(candidates) == [A, B, C, D, E]
    for name, expected in table.items():
        for item, value in expected.items():
            feature = values[candidates.index(item), NAMES.index(name)]
            # The tables keep eight bits of a number. Of these only rec's need more: a logarithm is then 0.4% off.
            tolerance = 4e-3 if name in ("rec_dec", "rec_all", "pre") else 5e-6
            assert feature == pytest.approx(value, abs=tolerance), (name, "ABCDE"[item])
