"""Numbers of the tables as bfloat16, the upper half of a float32."""

from __future__ import annotations

import numpy as np


def from_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return float32 of uint16[..]."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return uint16 of finite numbers [..] of at least 0: to the nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
