"""The session memory as a stage of its own: from queries and what the index found to the final ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.floors import flop_floor, read_floor, sum_of
from bench.harness import Case, Contender, Floor
from bench.oracle import true_logits
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_query import Dense
from mtaw_fast.memory.reference.candidates import QuerySettings, query
from mtaw_fast.memory.reference.features import features
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.memory_stage import MemoryStage

if TYPE_CHECKING:
    from bench.throughput_cases import ServingCases

RANKER_TOLERANCE = 1e-3  # float32 features and layers against float64, on the scores of candidates
_PAIR_BYTES = 20  # of a neighbour: its id, the latest session of both, six values of 16 bits
_POSTING_BYTES = 4


def memory_case(cases: ServingCases) -> Case:
    """Candidates, features and ranker of a bundle that has a session memory; no baseline does the same."""
    bundle, index, batches = cases.workload.bundle, cases.ours.index, cases.batches
    memory = MemoryStage.of(Catalog.of(bundle.model))
    assert memory is not None
    queries = [cases.ours.encoder.encode(batch) for batch in batches]
    asked = []
    for batch, vectors in zip(batches, queries, strict=True):
        ids, logits = index.search(vectors, memory.width(cases.k), scale=bundle.config.scale)
        dense = Dense(vectors, ids, logits, bundle.item_vectors, bundle.config.scale)
        begins, ends = batch.offsets[:-1].copy(), batch.offsets[1:].copy()
        asked.append((np.ascontiguousarray(batch.items), begins, ends, cases.k, dense))

    def truth(number: int, rows: int) -> np.ndarray:
        logits = true_logits(bundle.config, bundle.weights, queries[number][:rows])
        return true_memory(bundle, batches[number].slice(0, rows), logits)

    return Case(
        "memory",
        cases.path_params,
        "latency_us",
        Contender("ours", lambda call: memory.memory.rank(memory.ranker, *asked[call % len(asked)])),
        [],
        lambda contender: cases.ranking_error(contender, lambda output: output, truth, RANKER_TOLERANCE),
        cases.plan,
        memory_floor(bundle, batches[0]),
    )


def memory_floor(bundle: Bundle, batch: Sessions) -> Floor:
    """The ranker's products over the candidates, after one pass over what the tables say of the sessions' items."""
    tables, ranker = bundle.memory, bundle.ranker
    assert tables is not None
    assert ranker is not None
    n_bytes, candidates = 0, 0
    for clicks in batch:
        own = np.unique(clicks)
        rows, lists = np.diff(tables.row_offsets)[own].sum(), np.diff(tables.post_offsets)[own].sum()
        n_bytes += int(rows) * _PAIR_BYTES + int(lists) * _POSTING_BYTES
        candidates += len(query(tables, clicks, _settings(bundle)).candidates())
    n, (n1, n2) = len(ranker.features), ranker.w2.shape
    flop = 2.0 * candidates * (n * n1 + n1 * n2 + n2 + n)
    what = f"rows and postings of the items of {len(batch)} session{'s' * (len(batch) > 1)}"
    return sum_of(flop_floor(flop, f"the ranker over {candidates} candidates"), read_floor(max(n_bytes, 64), what))


def true_memory(bundle: Bundle, sessions: Sessions, logits: np.ndarray) -> np.ndarray:
    """The final scores of the whole catalog for B sessions, by the plain reference: float64[B, N].

    logits: float64[B, N], the true ones.
    """
    assert bundle.memory is not None
    assert bundle.ranker is not None
    settings, scale = _settings(bundle), bundle.config.scale
    scores = np.empty_like(logits)
    for row, clicks in enumerate(sessions):
        best = np.argsort(-logits[row], kind="stable")[: settings.dense].astype(np.int32)
        found = query(bundle.memory, clicks, settings, (best, logits[row][best]))
        candidates = found.candidates()
        for item in candidates:
            found.items[item].logit = float(logits[row][item])
        ranked = bundle.ranker.scores(features(found, candidates))
        scores[row] = ranked.min() - (scale - logits[row])
        scores[row][candidates] = ranked
    return scores


def _settings(bundle: Bundle) -> QuerySettings:
    return QuerySettings(others=bundle.config.near_candidates, dense=bundle.config.dense_candidates)
