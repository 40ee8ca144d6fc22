"""A log of five sessions, and the cosines of its pairs of items."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemorySettings, MemoryTables

A, B, C, E = range(4)
# A and B are together in three sessions, A and C in one; E is alone.
TABLES = MemoryTables.build(
    Sessions.from_lists([[A, B], [B, A, A], [A, B], [A, C], [E]]), 4, MemorySettings(max_postings=3)
)
# Totals of ses: A 3 + 1, B 3, C 1, E 0.
TOGETHER = {(A, B): 3 / np.sqrt(5 * 4), (A, C): 1 / np.sqrt(5 * 2)}
