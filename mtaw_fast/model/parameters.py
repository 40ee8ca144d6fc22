"""Name and shape of every array that MTAW learns, without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mtaw_fast.config import Config


def parameter_shapes(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """The learned arrays of MTAW over N items, all float32; a linear layer is weight[out, in].

    Parameters
    ----------
    config : Config
        Gives d, the number of position rows, and whether `recent` is learned.
    n_items : int
        N, the size of the catalog.

    Returns
    -------
    dict of str to tuple of int
        Shape by name, in the order of the model's layers.
    """
    d = config.model.embedding_dim
    recent: dict[str, tuple[int, ...]] = {"recent": (2,)} if config.model.recent_weight > 0 else {}
    return {
        "item_embedding": (n_items, d),
        "position_embedding": (config.model.max_positions, d),
        "itl_query_weight": (d, d),
        "itl_query_bias": (d,),
        "ffn_in_weight": (d, d),
        "ffn_in_bias": (d,),
        "ffn_out_weight": (d, d),
        "ffn_out_bias": (d,),
        "norm_weight": (d,),
        "norm_bias": (d,),
        "iel_query_weight": (d, d),
        "iel_query_bias": (d,),
        **recent,
    }


RECENT_CLICKS = 16  # of a session, that r_t is made of: at most; a power of two
SHORTEST = 1e-12  # of an item's vector, that still has a direction of length 1: torch's normalize
RATE = 10.0
_FARTHEST = 6.9  # log(gain) and logit(decay), either way: gain below 1000, decay below 0.999


class Recent(NamedTuple):
    """gain: weight of r_t, 0 without recent clicks in the query. decay: in (0, 1), 0 without."""

    gain: float
    decay: float


def starting_weights(config: Config) -> list[float]:
    """The array `recent` that stands for config.recent and config.recent_decay; config.recent is not 0."""
    gain, decay = config.model.recent_weight, config.model.recent_decay
    return [math.log(gain) / RATE, math.log(decay / (1 - decay)) / RATE]


def recent_of(weights: Mapping[str, np.ndarray]) -> Recent:
    """What a model's arrays say, by name; a model without `recent` has none.

    Raises ValueError where they are out of range, as no training leaves them.
    """
    if "recent" not in weights:
        return Recent(0.0, 0.0)
    log_gain, logit = (weights["recent"].astype(np.float64) * RATE).tolist()
    if not (abs(log_gain) <= _FARTHEST and abs(logit) <= _FARTHEST):
        raise ValueError("the array 'recent' is out of range")
    return Recent(math.exp(log_gain), 1 / (1 + math.exp(-logit)))
