"""Measure a trained model through the path that serves, before it is a bundle."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation import Progress, ranks_of
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex


def served_ranks(model: Model, samples: Samples, progress: Progress | None = None) -> np.ndarray:
    """int32[S]: the ranks (`evaluation.ranks_of`) of the samples' targets that a bundle of the model would give."""
    index = NativeIndex(model.item_vectors, model.scan)
    pipeline = Pipeline.of(Catalog.of(model), NativeEncoder(model.config, model.weights), index)
    return ranks_of(pipeline, samples, progress=progress)


def served_metrics(model: Model, samples: Samples) -> dict[str, float]:
    """Return P@K and MRR@K in percent over `samples` that a bundle of the model would have."""
    return means_of(gains_of(served_ranks(model, samples)))
