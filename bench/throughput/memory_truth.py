"""The true answer of the session memory's stage, by the plain reference, and its floor."""

from __future__ import annotations

import numpy as np

from bench.harness.comparison import Floor
from bench.harness.floors import flop_floor, read_floor, sum_of
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory.settings import query_settings
from tests.memory.reference.candidates import QuerySettings, query
from tests.memory.reference.features import features

RANKER_TOLERANCE = 1e-3  # float32 features and layers against float64, on the scores of candidates
_PAIR_BYTES = 20  # of a neighbor: its id, the latest session of both, six values of 16 bits


def memory_floor(bundle: Bundle, batch: Sessions) -> Floor:
    """Return the floor of the ranker's products over the candidates, after one pass over the items' table rows."""
    tables, ranker = bundle.memory, bundle.ranker_net
    assert tables is not None
    assert ranker is not None
    n_bytes, candidates = 0, 0
    for clicks in batch:
        items = np.unique(clicks)
        n_bytes += int(np.diff(tables.row_offsets)[items].sum()) * _PAIR_BYTES
        candidates += len(query(tables, clicks, _settings(bundle)).candidates())
    n, (n1, n2) = len(ranker.features), ranker.w2.shape
    flop = 2.0 * candidates * (n * n1 + n1 * n2 + n2 + n)
    description = f"rows of the items of {len(batch)} session{'s' * (len(batch) > 1)}"
    return sum_of(
        flop_floor(flop, f"the ranker over {candidates} candidates"), read_floor(max(n_bytes, 64), description)
    )


def true_memory(bundle: Bundle, sessions: Sessions, logits: np.ndarray) -> np.ndarray:
    """Return the final scores of the whole catalog for B sessions, by the plain reference: float64[B, N].

    logits: float64[B, N], the true ones.
    """
    assert bundle.memory is not None
    assert bundle.ranker_net is not None
    settings, scale = _settings(bundle), bundle.config.model.scale
    scores = np.empty_like(logits)
    for row, clicks in enumerate(sessions):
        best = np.argsort(-logits[row], kind="stable")[: settings.dense].astype(np.int32)
        evidence = query(bundle.memory, clicks, settings, (best, logits[row][best]))
        candidates = evidence.candidates()
        for item in candidates:
            evidence.items[item].logit = float(logits[row][item])
        ranked = bundle.ranker_net.scores(features(evidence, candidates))
        scores[row] = ranked.min() - (scale - logits[row])
        scores[row][candidates] = ranked
    return scores


def _settings(bundle: Bundle) -> QuerySettings:
    return query_settings(bundle.config)
