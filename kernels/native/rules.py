"""Rules on a ranking: which items pass a filter, and the order after boosts, limits and pins.

Arrangement(n_items, boosts, limits)
    boosts: [(bits uint8[ceil(n_items / 8)], by, count)]: adds `by` to the items whose bit is set; count: how many a
    ranking can contain, or more. limits: [(kind, values, most)]: at most `most` items with the same value;
    kind 'category' with codes int32[n] (-1: not limited), 'boolean' with int8[n] (-1), 'categories' with
    (offsets int64[n + 1], codes int32[..]). The arrays are kept without a copy.
arrangement.arrange(ids, scores, k, whole, pins)
    ids int32[D], scores float32[D]: the first places of a ranking, all of it if `whole`. pins: [(place, id)],
    ascending places from 1. Returns (ids int32[m], scores float32[m], boosts float64[m], pinned bool[m]), m <= k;
    None if items behind the D could be among the k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = ["Arrangement", "rule_bits"]

Arrangement = _native.Arrangement


def rule_bits(instructions: Sequence[tuple[Any, ...]], n_items: int) -> np.ndarray:
    """Return the items that pass a filter: uint8[ceil(n_items / 8)], bit i % 8 of byte i // 8; releases the GIL.

    instructions: in postfix order. A leaf is false where its value is missing, also behind the rows of its columns:

        ("number", float64[n], other float64[n] or None, constant, "<")    ("time", int64[n], other, constant, "<")
        ("flag", int8[n], other, constant, is_equal)
        ("codes", int32[n], accepted uint8[labels])    ("same", int32[n], int32[n], translation int32[..], is_equal)
        ("list", offsets int64[n + 1], codes int32[..], accepted, is_negated)
        ("text", offsets int64[n + 1], uint8[..], [bytes, ..], is_negated)
        ("missing", kind, array)    ("constant", bool)

    Then ("all", count), ("any", count) and ("not",) combine the last results. Raises ValueError on others.
    """
    return _native.rule_bits(list(instructions), n_items)
