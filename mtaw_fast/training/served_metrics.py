"""Scoring what was trained through the path that serves, before it is a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import most_clicked_first, normalised
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.evaluation import ranks_of
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.kernels.native.scan import quantise
from mtaw_fast.memory import MemoryTables, RankerNet
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


def served_metrics(
    config: Config,
    weights: Mapping[str, np.ndarray],
    dataset: Dataset,
    memory: MemoryTables | None,
    ranker: RankerNet | None,
    samples: Samples,
) -> dict[str, float]:
    """P@K and MRR@K in percent over `samples`, of the model that a bundle with these parts would serve."""
    catalog = normalised(weights["item_embedding"])
    popularity = np.zeros(dataset.n_items, dtype=np.int64)  # only sessions without clicks are ranked by it
    bundle = Bundle(
        folder=Path(),
        manifest={},
        config=config,
        weights=weights,
        catalog=catalog,
        ids=dataset.ids,
        popularity=popularity,
        most_clicked=most_clicked_first(popularity),
        scan=quantise(catalog),
        memory=memory,
        ranker=ranker,
    )
    index = ScanIndex(bundle.catalog, bundle.scan)
    served = serve(Catalog.of(bundle), NativeEncoder(config, weights), index)
    return means_of(gains_of(ranks_of(ServedRanker(served), samples)))
