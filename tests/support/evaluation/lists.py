"""Random sessions, and the lists that rankers make of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

N = 12
session_lists = st.lists(st.lists(st.integers(0, N - 1), min_size=0, max_size=9), min_size=0, max_size=8)


def best_first(scores: dict[int, float], k: int) -> list[int]:
    return sorted(scores, key=lambda item: (-np.float32(scores[item]), item))[:k]
