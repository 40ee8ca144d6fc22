"""Fit a power of the size to costs: the slope on logarithmic axes, its interval, and a bend; and Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NORMAL = 1.959964
_FIRST = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # Student's quantiles of 1, 2, .. 9 degrees
MIN_ERROR = 0.05  # of a point: how much two processes that do the same differ
_BEND_GAIN = 11.8  # of chi-square, for two more parameters: three standard deviations
_BEND_CHANGE = 0.1  # of the exponent


@dataclass(frozen=True, slots=True)
class Bend:
    """A change from one power to another: its size, and the exponents before and after it."""

    size: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Power:
    """cost ~ size^exponent, the ends of the exponent's 95% interval, and a bend if that fits better than one power."""

    exponent: float
    low: float
    high: float
    points: int
    bend: Bend | None = None

    def __str__(self) -> str:
        text = f"{_plain(self.exponent)} [{_plain(self.low)}, {_plain(self.high)}]"
        if self.bend is None:
            return text
        before, after = _plain(self.bend.before), _plain(self.bend.after)
        return f"{text}, {before} up to {self.bend.size:,.0f} and {after} beyond"


def _plain(value: float) -> str:
    """Return two digits, without a minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def student_quantile(freedom: int) -> float:
    """Return the 97.5% quantile of Student's t: half a 95% interval in standard deviations.

    freedom: degrees of freedom, at least 1. Beyond the table it is a series, off by at most 0.003.
    """
    if freedom <= len(_FIRST):
        return _FIRST[freedom - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def power_of(sizes: Sequence[float], costs: Sequence[float], errors: Sequence[float] = ()) -> Power:
    """Fit a power by least squares on logarithms.

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
    order = np.argsort(sizes, kind="stable")
    x, y = np.log(np.array(sizes, float)[order]), np.log(np.array(costs, float)[order])
    sigma = np.maximum(np.array(errors, float)[order] if len(errors) else 0.0, MIN_ERROR) * np.ones(len(x))
    straight, chi, deviations = _fitted([np.ones_like(x), x], y, sigma)
    freedom = len(x) - 2
    scale = math.sqrt(max(1.0, chi / freedom)) if freedom else 1.0
    reach = (student_quantile(freedom) if freedom else 1.96) * scale * deviations[1]
    exponent = float(straight[1])
    return Power(exponent, exponent - reach, exponent + reach, len(x), _bend(x, y, sigma, chi))


def _bend(x: np.ndarray, y: np.ndarray, sigma: np.ndarray, straight: float) -> Bend | None:
    """Return the best inner point for the line to turn at; None if a bend does not fit better.

    The required gain grows with the scatter that the bent line leaves beyond the points' errors.
    """
    bends: list[tuple[float, Bend]] = []
    freedom = len(x) - 4  # two powers and the position of the bend
    for knot in np.unique(x)[1:-1] if freedom > 0 else ():
        fit, chi, _ = _fitted([np.ones_like(x), x, np.maximum(x - knot, 0)], y, sigma)
        if straight - chi > _BEND_GAIN * max(1.0, chi / freedom) and abs(fit[2]) > _BEND_CHANGE:
            bends.append((chi, Bend(float(np.exp(knot)), float(fit[1]), float(fit[1] + fit[2]))))
    return min(bends, key=lambda entry: entry[0])[1] if bends else None


def _fitted(columns: Sequence[np.ndarray], y: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Fit weighted least squares; return coefficients, chi-square and the coefficients' standard deviations."""
    matrix = np.stack(columns, axis=1) / sigma[:, None]
    coefficients, *_ = np.linalg.lstsq(matrix, y / sigma, rcond=None)
    chi = float((((matrix @ coefficients) - y / sigma) ** 2).sum())
    return coefficients, chi, np.sqrt(np.diag(np.linalg.pinv(matrix.T @ matrix)))
