"""The importance of each feature of the ranker: the metrics that are lost if it is the same for every candidate.

Axes: S samples, R candidates of all of them, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation.metrics import gains_of, listed_rank, means_of
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.item_content import item_content
from mtaw_fast.training.ranker.candidates import Prefixes, dense_of, moment_of
from mtaw_fast.training.ranker.prequential import evenly
from mtaw_fast.training.threads import current_threads

MAX_SAMPLES = 500  # some seconds of work
_LAST_RANK = 20  # ranks after it are misses


def feature_importance(model: Model, samples: Samples, max_samples: int = MAX_SAMPLES) -> dict[str, Any]:
    """Score samples with each feature in turn replaced by its mean; the ranker's other inputs stay.

    Similar features replace one another, so their importances do not add up.

    model: with a session memory that has not seen the samples. samples: with types, if any, as the ranker reads them.
    Of more than `max_samples`, that many are scored, evenly spread.
    Returns `samples`: how many were scored; `metrics` of them, in percent; `features`: by name the loss of P@20 and of
    MRR@20 without it, in points, the largest loss of MRR@20 first.
    """
    assert model.memory is not None
    assert model.ranker_net is not None
    chosen = np.flatnonzero(evenly(len(samples), max_samples) & (samples.prefixes.lengths > 0))
    ids, values = _candidates(model, samples, chosen)
    valid, targets = ids >= 0, samples.targets[chosen]
    net = _Standardized(model.ranker_net, values[valid])
    names = model.ranker_net.features

    def metrics(without: int | None) -> dict[str, float]:
        scores = np.full(ids.shape, -np.inf, dtype=np.float32)
        scores[valid] = net.scores(without)
        ranks = listed_rank(ids, scores, targets)
        return means_of(gains_of(np.where(ranks <= _LAST_RANK, ranks, 0)))

    full = metrics(None)
    importance = {}
    for feature, name in enumerate(names):
        reduced = metrics(feature)
        importance[name] = {metric: round(full[metric] - reduced[metric], 3) for metric in ("P@20", "MRR@20")}
    ordered = sorted(importance, key=lambda name: -importance[name]["MRR@20"])
    return {"samples": len(chosen), "metrics": full, "features": {name: importance[name] for name in ordered}}


def _candidates(model: Model, samples: Samples, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32[s, C] padded with -1, features float32[s, C, F]) of the samples int64[s], as in serving."""
    config, sessions, threads = model.config, samples.prefixes, current_threads().pieces
    assert model.memory is not None
    trends = None if model.trends is None else model.trends.live(model.n_items)
    memory = model.memory.queries(model.n_items, query_settings(config, trends is not None))
    ends = sessions.offsets[1:][chosen]
    items = np.ascontiguousarray(sessions.items)
    prefixes = Prefixes(items, sessions.offsets[:-1][chosen], ends, samples.targets[chosen])
    dense = dense_of(config, model.weights, prefixes, threads) if config.memory.dense_candidates else None
    moment = None
    if trends is not None and model.ranker_net is not None:
        moment = moment_of(trends, sessions, ends, content=item_content(model.ranker_net.side, model.items))
    return memory.features(
        items, prefixes.begins, ends, dense, threads=threads, moment=moment, types=sessions.types,
        n_types=len(model.click_types),
    )  # fmt: skip


class _Standardized:
    """A ranker over R candidates with a stored first layer: removing a feature is one outer product."""

    def __init__(self, net: RankerNet, features: np.ndarray) -> None:
        self._net = net
        self._x = (np.clip(features, *net.bounds()) - net.mean) * net.scale  # [R, F]
        self._first = self._x @ net.w1 + net.b1
        self._linear = self._x @ net.linear

    def scores(self, without: int | None) -> np.ndarray:
        """float32[R], up to a constant; without: the feature that is replaced by its mean."""
        net, first, linear = self._net, self._first, self._linear
        if without is not None:
            x = self._x[:, without]
            first, linear = first - np.outer(x, net.w1[without]), linear - x * net.linear[without]
        hidden = np.maximum(np.maximum(first, 0) @ net.w2 + net.b2, 0)
        return linear + hidden @ net.w3
