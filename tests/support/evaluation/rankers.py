"""Rankers with known scores, samples of known targets, and ranks by brute force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Samples, Sessions

NAN = float("nan")
INF = float("inf")


@dataclass
class Dense:
    """Ranks by a dense score row looked up by the first click of the session; ties by lower id."""

    table: np.ndarray

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = self.table[[session[0] for session in sessions]]
        ids = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
        best = np.take_along_axis(scores, ids, axis=1)
        padding = ((0, 0), (0, k - ids.shape[1]))
        return np.pad(ids, padding, constant_values=-1), np.pad(best, padding, constant_values=-np.inf)


class Listed:
    """Gives the rows of `lists` int[S, K] to the sessions in the order in which they come."""

    def __init__(self, lists: np.ndarray) -> None:
        self._lists, self._done = lists.astype(np.int32), 0

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        ids = np.full((len(sessions), k), -1, np.int32)
        lists = self._lists[self._done : self._done + len(sessions), :k]
        ids[:, : lists.shape[1]] = lists
        self._done += len(sessions)
        scores = np.where(ids >= 0, -np.arange(k, dtype=np.float32), -np.inf)
        return ids, scores.astype(np.float32)


def samples_of(targets: list[int], first: list[int] | None = None, session: list[int] | None = None) -> Samples:
    count = len(targets)
    prefixes = Sessions.from_lists([[click] for click in first or [0] * count])
    groups = np.array(range(count) if session is None else session, np.int32)
    return Samples(prefixes, np.array(targets, np.int32), groups)


def brute_force_rank(scores: list[float], target: int) -> int:
    own_score = scores[target]
    if own_score != own_score:
        return 0
    return 1 + sum(1 for i, other in enumerate(scores) if i != target and (other != other or other >= own_score))


score = st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, -2.0, INF, -INF, NAN])
tables = st.integers(1, 30).flatmap(lambda n: st.lists(st.lists(score, min_size=n, max_size=n), min_size=1, max_size=6))
