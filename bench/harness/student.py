"""Student's t, for intervals from few points."""

from __future__ import annotations

_NORMAL = 1.959964
_FIRST = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # of 1, 2, .. 9 degrees of freedom


def quantile(freedom: int) -> float:
    """The 97.5% quantile, half a 95% interval in standard deviations; beyond the table by a series, 0.003 off at most.

    freedom: degrees of it, at least 1.
    """
    if freedom <= len(_FIRST):
        return _FIRST[freedom - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
