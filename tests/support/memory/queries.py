"""Queries of the session memory for tests: random dense lists and rankers, and the expected results."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native import rerank_topk
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import Dense, SessionMemory
from mtaw_fast.memory import MemoryTables, RankerNet
from tests.memory.reference.candidates import Query, QuerySettings, query
from tests.memory.reference.features import NAMES

SCALE = 12.0
CUT = 1e-5  # pre-scores this close may be in either order


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Prefixes to query, and everything that the answers depend on."""

    tables: MemoryTables
    settings: QuerySettings
    n_catalog: int
    sessions: Sessions
    dense: Dense | None

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The items, and begin and end of every prefix."""
        return self.sessions.items, self.sessions.offsets[:-1].copy(), self.sessions.offsets[1:].copy()

    def memory(self, isa: str | None = None) -> SessionMemory:
        """Return the native memory."""
        return self.tables.queries(self.n_catalog, self.settings, isa)

    def part(self, rows: np.ndarray) -> Problem:
        """Return some of the prefixes, in another order."""
        dense = self.dense
        if dense is not None:
            dense = replace(dense, queries=dense.queries[rows], ids=dense.ids[rows], logits=dense.logits[rows])
        return replace(self, sessions=self.sessions.select(rows), dense=dense)

    def reference(self, row: int) -> Query:
        """Return the query of one prefix in plain Python, with the logits."""
        dense = None if self.dense is None else (self.dense.ids[row], self.dense.logits[row])
        found_query = query(self.tables, self.sessions[row], self.settings, dense)
        if self.dense is not None:
            logits = logits_of(self.dense, row)
            for item, entry in found_query.items.items():
                entry.logit = float(logits[item])
        return found_query


def delta_of(tables: MemoryTables, capacity: int = 0, max_clicks: int = 512) -> MemoryDelta:
    """Return an empty delta over the tables."""
    return MemoryDelta(tables.arrays(), tables.settings.native, capacity=capacity, max_clicks=max_clicks)


def logits_of(dense: Dense, row: int) -> np.ndarray:
    """Return float32[N + M]: every item's logit, by the exact scorer."""
    catalog = dense.catalog if dense.added is None else np.concatenate([dense.catalog, dense.added])
    n_items = len(catalog)
    everything = np.arange(n_items, dtype=np.int32)[None]
    ids, logits = rerank_topk(dense.queries[row : row + 1], catalog, everything, n_items, dense.scale)
    out = np.empty(n_items, np.float32)
    out[ids[0]] = logits[0]
    return out


def random_dense(n_queries: int, n_items: int, width: int, seed: int, d: int = 8, n_added: int = 0) -> Dense:
    """Return a dense list with random vectors; rows of the catalog have length 1."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n_items + n_added, d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = rng.normal(size=(n_queries, d)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    everything = np.tile(np.arange(n_items + n_added, dtype=np.int32), (n_queries, 1))
    ids, logits = rerank_topk(queries, vectors, everything, width, SCALE)
    added = np.ascontiguousarray(vectors[n_items:]) if n_added else None
    return Dense(queries, ids, logits, np.ascontiguousarray(vectors[:n_items]), SCALE, added)


def random_ranker(seed: int, n1: int = 24, n2: int = 16) -> RankerNet:
    """Return a ranker with random weights, with positive and negative units."""
    rng = np.random.default_rng(seed)
    n = len(NAMES)

    def array(*shape: int, spread: float = 1.0) -> np.ndarray:
        return (spread * rng.normal(size=shape)).astype(np.float32)

    return RankerNet(
        features=NAMES, mean=array(n), scale=np.abs(array(n)) + np.float32(0.1), linear=array(n, spread=0.1),
        w1=array(n, n1, spread=0.1), b1=array(n1), w2=array(n1, n2, spread=0.2), b2=array(n2),
        w3=array(n2, spread=0.2), bias=array(1),
    )  # fmt: skip


def widened(
    net: RankerNet, names: tuple[str, ...], seed: int, *, mean: float = 1, scale: float = 0.3, linear: float = 0.1,
    w1: float = 0.1,
) -> RankerNet:  # fmt: skip
    """Return a ranker that also reads the features `names`, with random weights of these spreads."""
    rng = np.random.default_rng(seed)

    def more(array: np.ndarray, spread: float) -> np.ndarray:
        added = spread * rng.normal(size=(len(names), *array.shape[1:]))
        return np.concatenate([array, added.astype(np.float32)])

    return replace(
        net, features=(*net.features, *names), mean=more(net.mean, mean),
        scale=np.concatenate([net.scale, np.full(len(names), scale, np.float32)]), linear=more(net.linear, linear),
        w1=more(net.w1, w1),
    )  # fmt: skip


def assert_ranked_by(
    net: RankerNet, features: tuple[np.ndarray, np.ndarray], ranking: tuple[np.ndarray, np.ndarray]
) -> None:
    """Assert that the first items of each ranking are the candidates best by the ranker's formula, with its scores."""
    for ids, values, listed, scores in zip(*features, *ranking, strict=True):
        known = ids >= 0
        expected = dict(zip(ids[known].tolist(), net.scores(values[known]), strict=True))
        of_listed = [expected[item] for item in listed.tolist() if item in expected]
        np.testing.assert_allclose(scores[: len(of_listed)], of_listed, rtol=1e-4, atol=1e-4)
        best = sorted(expected.values(), reverse=True)[: len(listed)]
        np.testing.assert_allclose(of_listed, best, rtol=1e-4, atol=2e-4)


def ambiguous(found_query: Query) -> set[int]:
    """Return items that rounding may put on either side of the cut."""
    others = sorted((item for item, entry in found_query.items.items() if entry.own is None), key=found_query.pre_score)
    if len(others) <= found_query.settings.others:
        return set()
    edge = found_query.pre_score(others[-found_query.settings.others])
    return {item for item in others if abs(found_query.pre_score(item) - edge) < CUT * max(edge, 1.0)}
