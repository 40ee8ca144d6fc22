"""The pairs of a delta in plain Python, as a reference for tests of the native delta.

Sessions are numbered by their last clicks, after those of the tables, and add their terms as in `MemoryTables`. `rec`
is as of the item's latest session in the delta, or of the last of all without one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bench.memory_reference.tables import near_once
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.memory.settings import MemorySettings

_KINDS = {kind: index for index, kind in enumerate(PAIR_KINDS)}


def delta_rows(
    sessions: Sequence[Sequence[int]], settings: MemorySettings, once: bool = False
) -> dict[int, dict[int, np.ndarray]]:
    """Return the pairs of every item.

    Parameters
    ----------
    sessions : sequence of sequences of int
        The delta's sessions by last click.
    settings : MemorySettings
        With `recency` as a number.
    once : bool, default False
        Whether sessions count a pair once.

    Returns
    -------
    dict of dict of float64[6]
        By item and neighbor, as PAIR_KINDS has them.
    """
    assert settings.recency is not None
    newest = {item: s for s, session in enumerate(sessions) for item in session}
    rows: dict[int, dict[int, np.ndarray]] = {}

    def pair(item: int, other: int) -> np.ndarray:
        return rows.setdefault(item, {}).setdefault(other, np.zeros(len(PAIR_KINDS)))

    for s, session in enumerate(sessions):
        first = {item: t for t, item in reversed(list(enumerate(session)))}
        near = list(near_once(list(session)).values()) if once else session
        for t, item in enumerate(near):
            for j in range(max(0, t - settings.window), min(len(near), t + settings.window + 1)):
                if near[j] == item:
                    continue
                values, weight = pair(item, near[j]), 1 / abs(j - t)
                values[_KINDS["fwd" if j > t else "bwd"]] += weight
                values[_KINDS["next"]] += j == t + 1
                values[_KINDS["rec"]] += weight * math.exp(-(newest[item] - s) / settings.recency)
        for item, t in first.items():
            for other, j in first.items():
                if other != item and abs(j - t) <= settings.span:
                    values = pair(item, other)
                    values[_KINDS["ses"]] += 1
                    values[_KINDS["aa"]] += 1 / (len(first) - 1)
    return rows
