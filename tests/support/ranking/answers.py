"""Whether two answers are the same."""

from __future__ import annotations

import numpy as np

from mtaw_fast.ranking.answer import Recommendations


def same(one: Recommendations, other: Recommendations) -> bool:
    return (
        one.items == other.items
        and one.scores.tobytes() == other.scores.tobytes()
        and one.unknown == other.unknown
        and one.fallback == other.fallback
        and (one.repeats is None) == (other.repeats is None)
        and (one.repeats is None or other.repeats is None or np.array_equal(one.repeats, other.repeats))
    )
