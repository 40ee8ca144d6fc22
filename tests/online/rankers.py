"""A ranker for tests that compare rankings."""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet
from tests.support.random_bundle import memory_parts

_WEIGHTS = {"pre": 1.0, "own": 2.0, "knn": 0.5, "rec_dec": 0.5, "clicks": 0.1, "logit": 0.05}


def plain_ranker() -> RankerNet:
    """One that goes by what a trained one goes by: a random one makes mountains of roundings."""
    names = feature_names()
    arrays = {name: np.zeros_like(array) for name, array in memory_parts()["ranker_net"].arrays().items()}
    arrays["scale"] += 1
    for name, weight in _WEIGHTS.items():
        arrays["linear"][names.index(name)] = weight
    return RankerNet(features=names, **arrays)
