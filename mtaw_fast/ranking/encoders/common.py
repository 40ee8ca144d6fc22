"""What every encoder shares: the checks before and the normalization after."""

from __future__ import annotations

import math

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError


def checked_sessions(sessions: Sessions, n_items: int) -> None:
    """Raise DataError on an item outside 0..n_items-1, UsageError on a session without clicks."""
    sessions.check_ids(n_items, "sessions to encode")
    empty = np.flatnonzero(sessions.offsets[1:] == sessions.offsets[:-1])
    if len(empty):
        raise UsageError(f"session {empty[0]} to encode has no clicks; leave it out")


def unit(vector: np.ndarray) -> np.ndarray:
    """float32[d] divided by its length (float64 arithmetic); a zero vector stays zero."""
    wide = vector.astype(np.float64)
    length = math.sqrt(float(wide @ wide))
    if length > 0:
        wide /= length
    return wide.astype(np.float32)
