"""Name and shape of every array that MTAW learns, and the meaning of the array `recent`; without PyTorch.

With recent clicks the query is o_t + gain * r_t: r_t is a mean of the last items' directions, in which a click has
`decay` times the weight of the one after it (`model.mtaw.recent_clicks`). Both are learned, since data sets differ in
how much the order of clicks matters. The array `recent` contains log(gain) / RATE and logit(decay) / RATE. Adam moves a
weight by about the learning rate a step; RATE lets the two cover their range within an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mtaw_fast.config import Config


def parameter_shapes(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the learned float32 arrays by name, in the order of the layers; linear: weight[out, in]."""
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


RECENT_CLICKS = 16  # the last clicks of a session in r_t, at most; a power of two
SHORTEST = 1e-12  # shorter vectors are divided by this instead of their length, as in torch's normalize
RATE = 10.0
FARTHEST = 6.9  # largest |log(gain)| and |logit(decay)|: gain below 1000, decay below 0.999


class Recent(NamedTuple):
    """How recent clicks add to the query. gain: weight of r_t. decay: in (0, 1). Both are 0 if they do not."""

    gain: float
    decay: float


def starting_weights(config: Config) -> list[float]:
    """Return the initial array `recent` for the config's recent_weight (not 0) and recent_decay."""
    gain, decay = config.model.recent_weight, config.model.recent_decay
    return [math.log(gain) / RATE, math.log(decay / (1 - decay)) / RATE]


def recent_of(weights: Mapping[str, np.ndarray]) -> Recent:
    """Return gain and decay from a model's arrays by name; zeros without the array `recent`.

    Raises ValueError if they are out of range, which no training produces.
    """
    if "recent" not in weights:
        return Recent(0.0, 0.0)
    log_gain, logit = (weights["recent"].astype(np.float64) * RATE).tolist()
    if not (abs(log_gain) <= FARTHEST and abs(logit) <= FARTHEST):
        raise ValueError("the array 'recent' is out of range")
    return Recent(math.exp(log_gain), 1 / (1 + math.exp(-logit)))
