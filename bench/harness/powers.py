"""The power of a size that a cost follows: the slope on logarithmic axes, its interval, and where it bends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.harness.student import quantile

_NORMAL = 1.96
LEAST_ERROR = 0.05  # of a point: how far two processes that do the same lie apart
_BEND_GAIN = 11.8  # of chi-square, for two more parameters: three standard deviations
_BEND_CHANGE = 0.1  # of the exponent


@dataclass(frozen=True, slots=True)
class Bend:
    """Where one power gives way to another: at a size, and the exponents before it and after."""

    size: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Power:
    """cost ~ size^exponent, the ends of the exponent's 95% interval, and where a bend fits better than one power."""

    exponent: float
    low: float
    high: float
    points: int
    bend: Bend | None = None

    def __str__(self) -> str:
        told = f"{_plain(self.exponent)} [{_plain(self.low)}, {_plain(self.high)}]"
        if self.bend is None:
            return told
        before, after = _plain(self.bend.before), _plain(self.bend.after)
        return f"{told}, {before} up to {self.bend.size:,.0f} and {after} beyond"


def _plain(value: float) -> str:
    """Two digits, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def power_of(sizes: Sequence[float], costs: Sequence[float], errors: Sequence[float] = ()) -> Power:
    """Fit a power by least squares on logarithms.

    Parameters
    ----------
    sizes, costs : sequence of float
        Points, above 0, at two different sizes at least.
    errors : sequence of float, optional
        Of the costs, as shares (one standard deviation); `LEAST_ERROR` each where they are less or none are given.

    Returns
    -------
    Power
        Where the points scatter by more than their errors the interval is as much wider. Of two points it comes from
        the errors alone.

    Raises
    ------
    ValueError
        On fewer than two different sizes, or a number that is not above 0.
    """
    if len(set(sizes)) < 2 or len(sizes) != len(costs) or min(*sizes, *costs) <= 0:
        raise ValueError("a power needs positive costs at two different sizes at least")
    order = np.argsort(sizes, kind="stable")
    x, y = np.log(np.array(sizes, float)[order]), np.log(np.array(costs, float)[order])
    sigma = np.maximum(np.array(errors, float)[order] if len(errors) else 0.0, LEAST_ERROR) * np.ones(len(x))
    straight, chi, deviations = _fitted([np.ones_like(x), x], y, sigma)
    freedom = len(x) - 2
    scale = math.sqrt(max(1.0, chi / freedom)) if freedom else 1.0
    reach = (quantile(freedom) if freedom else _NORMAL) * scale * deviations[1]
    exponent = float(straight[1])
    return Power(exponent, exponent - reach, exponent + reach, len(x), _bend(x, y, sigma, chi))


def _bend(x: np.ndarray, y: np.ndarray, sigma: np.ndarray, straight: float) -> Bend | None:
    """The best place among the inner points where the line may turn; None where it does not pay.

    What it must gain grows with the scatter that the bent line leaves, beyond the points' errors.
    """
    found: list[tuple[float, Bend]] = []
    freedom = len(x) - 4  # of two powers and the place where one gives way to the other
    for knot in np.unique(x)[1:-1] if freedom > 0 else ():
        fit, chi, _ = _fitted([np.ones_like(x), x, np.maximum(x - knot, 0)], y, sigma)
        if straight - chi > _BEND_GAIN * max(1.0, chi / freedom) and abs(fit[2]) > _BEND_CHANGE:
            found.append((chi, Bend(float(np.exp(knot)), float(fit[1]), float(fit[1] + fit[2]))))
    return min(found, key=lambda one: one[0])[1] if found else None


def _fitted(columns: Sequence[np.ndarray], y: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Weighted least squares: the coefficients, chi-square, and the coefficients' standard deviations."""
    matrix = np.stack(columns, axis=1) / sigma[:, None]
    found, *_ = np.linalg.lstsq(matrix, y / sigma, rcond=None)
    chi = float((((matrix @ found) - y / sigma) ** 2).sum())
    return found, chi, np.sqrt(np.diag(np.linalg.pinv(matrix.T @ matrix)))
