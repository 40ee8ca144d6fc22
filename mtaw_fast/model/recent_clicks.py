"""How much the last clicks themselves count in a query: two learned numbers, and what they stand for.

The query is o_t + gain * r_t, r_t a mean of the last items' directions that weighs a click `decay` times as much as the
one after it (`model.recent_clicks`). Sessions differ in how much their order tells, so both are learned: the array
`recent` holds log(gain) / RATE and logit(decay) / RATE. RATE lets Adam, which moves a weight by about the learning rate
a step, take them through their range within an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mtaw_fast.config import Config

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
