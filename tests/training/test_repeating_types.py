"""Weights on types whose targets repeat the click before them are warned of."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.repeating_types import warnings_on_weights

NAMES = ("view", "cart", "buy", "gift")
VIEW, CART, BUY = 0, 1, 2


def test_a_weight_on_repeats_is_named() -> None:
    items = np.array([1, 1, 2, 2, 2, 3, 1, 4], np.int32)
    types = np.array([VIEW, CART, VIEW, CART, BUY, VIEW, BUY, VIEW], np.uint8)
    sessions = Sessions(items, np.array([0, 5, 5, 8]), types=types)
    weights = np.array([1, 3, 8, 1], np.float32)
    # Both carts repeat the click before them; of two purchases one does, which is not most; nobody gives a gift.
    (line,) = warnings_on_weights(sessions, NAMES, weights)
    assert line.startswith("100% of the targets of type cart repeat the click before them")
    assert not warnings_on_weights(sessions, NAMES, np.ones(4, np.float32))
    assert not warnings_on_weights(sessions, NAMES, np.array([1, 0, 8, 1], np.float32))
