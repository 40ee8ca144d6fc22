"""Scoring what was trained through the path that serves, before it is a bundle."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.evaluation import ranks_of
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.conditions import EVERYTHING
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.pipeline import Served, serve
from mtaw_fast.ranking.retrieval import ScanIndex


class ServedRanker:
    """An `evaluation.Evaluated` of what serves."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `evaluation.Evaluated`; sessions are not empty."""
        width = min(k, self._served.catalog.n_items)
        ids, scores = self._served.ranker.rank(sessions, width, EVERYTHING)
        spare = ((0, 0), (0, k - width))
        return np.pad(ids, spare, constant_values=-1), np.pad(scores, spare, constant_values=-np.inf)


def served_metrics(model: Model, samples: Samples) -> dict[str, float]:
    """P@K and MRR@K in percent over `samples`, of what a bundle of the model would serve."""
    index = ScanIndex(model.item_vectors, model.scan)
    served = serve(Catalog.of(model), NativeEncoder(model.config, model.weights), index)
    return means_of(gains_of(ranks_of(ServedRanker(served), samples)))
