"""Fit a power of the size to costs: the slope on logarithmic axes, with its interval; and Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NORMAL = 1.959964
_FIRST = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's quantiles of 1, 2, .. 9 degrees
MIN_ERROR = 0.05  # of a point: how much two processes that do the same differ


@dataclass(frozen=True, slots=True)
class Power:
    """cost ~ size^exponent, and the ends of the exponent's 95% interval."""

    exponent: float
    low: float
    high: float

    def __str__(self) -> str:
        exponent, low, high = (f"{round(value, 2) + 0.0:.2f}" for value in (self.exponent, self.low, self.high))
        return f"{exponent} [{low}, {high}]"


def student_quantile(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t: half a 95% interval in standard deviations.

    freedom: degrees of freedom, at least 1. Beyond the table it is a series, off by at most 0.003.
    """
    if freedom <= len(_FIRST):
        return _FIRST[freedom - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def power_of(sizes: Sequence[float], costs: Sequence[float], errors: Sequence[float] = ()) -> Power:
    """Fit a power by weighted least squares on logarithms.

    Parameters
    ----------
    sizes, costs : sequence of float
        Points above 0, at two or more different sizes.
    errors : sequence of float, optional
        Relative errors of the costs (one standard deviation), at least `MIN_ERROR` each.

    Returns
    -------
    Power
        The interval is wider if the points scatter by more than their errors. With two points it comes from the errors.

    Raises
    ------
    ValueError
        If there are fewer than two different sizes, or a number is not above 0.
    """
    if len(set(sizes)) < 2 or len(sizes) != len(costs) or min(*sizes, *costs) <= 0:
        raise ValueError("a power needs positive costs at two different sizes at least")
    x, y = np.log(np.array(sizes, float)), np.log(np.array(costs, float))
    sigma = np.maximum(np.array(errors, float) if len(errors) else 0.0, MIN_ERROR) * np.ones(len(x))
    matrix = np.stack([np.ones_like(x), x], axis=1) / sigma[:, None]
    line, *_ = np.linalg.lstsq(matrix, y / sigma, rcond=None)
    deviation = math.sqrt(np.linalg.inv(matrix.T @ matrix)[1, 1])
    freedom = len(x) - 2
    chi = float(((matrix @ line - y / sigma) ** 2).sum())
    scale = student_quantile(freedom) * math.sqrt(max(1.0, chi / freedom)) if freedom else 1.96
    exponent, reach = float(line[1]), scale * deviation
    return Power(exponent, exponent - reach, exponent + reach)
