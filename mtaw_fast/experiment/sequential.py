"""Intervals and tests that are valid at every look, so that a running experiment may be read daily.

A fixed test at 5% that is repeated every day raises a false alarm in far more than 5% of the experiments. The interval
here is a confidence sequence: with probability 1 - alpha it contains the truth at all sample sizes together. So one
may stop whenever it excludes zero.

- Mean and difference: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
  "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics 52(6), 2024). Its
  boundary is Robbins' normal mixture, which is also that of mSPRT (Johari, Koomen, Pekelis and Walsh, KDD 2017).
- Shares of the arms: the Dirichlet-multinomial mixture of Lindon and Malek, "Anytime-valid inference for multinomial
  count data" (NeurIPS 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from mtaw_fast.errors import UsageError

_NORMAL = NormalDist()
_STEPS = 60  # of the fixed point below, which converges by a factor of 8 a step
_PRIOR = 100.0  # pseudo-sessions of the mixture over shares: it finds a share that is a few percent off soonest


def mixture_precision(planned: float, alpha: float) -> float:
    """Return rho**2: with it the interval is narrowest when `planned` units have come. It is valid with any other.

    `multiplier` is least at the x = rho**2 n that solves x = log(1 + x) + 2 log(1 / alpha).
    """
    x = constant = -2 * math.log(alpha)
    for _ in range(_STEPS):
        x = math.log1p(x) + constant
    return x / planned


def multiplier(n: Any, planned: float, alpha: float) -> Any:
    """Return how many standard errors the interval extends to each side after n units; n may be an array."""
    x = mixture_precision(planned, alpha) * np.asarray(n, np.float64)
    return np.sqrt((x + 1) / x * (np.log1p(x) - 2 * math.log(alpha)))


def power_at(n: float, effect: float, deviation: float, planned: float, alpha: float) -> float:
    """Return the least probability that the interval excludes zero by the time that n units have come.

    It is that of excluding zero at n itself; earlier looks add to it. effect: the true difference. deviation: of the
    difference, times sqrt(n).
    """
    if n < 1 or deviation <= 0:
        return 0.0
    return _NORMAL.cdf(abs(effect) * math.sqrt(n) / deviation - float(multiplier(n, planned, alpha)))


def units_needed(effect: float, deviation: float, alpha: float, power: float) -> int:
    """Return how many units it takes to find a difference with this power, when the interval is planned for so many."""
    if not effect:
        raise UsageError("a difference of 0 cannot be found; name the effect that would be worth having")
    at_best = float(multiplier(1.0, 1.0, alpha))
    return math.ceil(((at_best + _NORMAL.inv_cdf(power)) * deviation / effect) ** 2)


def ratio_moments(over: np.ndarray, under: np.ndarray) -> tuple[float, float]:
    """Return the ratio of two sums over units, and the variance of one unit in it, by the delta method.

    over, under: float64[n], the terms of each unit in the numerator and the denominator. A unit is a session, for
    example with its clicked and all its rankings: sessions are independent, the rankings of one session are not.
    """
    return ratio_of_sums(unit_sums(over, under).sum(axis=1))


def unit_sums(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Return float64[6, n]: the terms of each unit in the six sums that `ratio_of_sums` takes."""
    return np.stack([np.ones_like(over), over, under, over * over, over * under, under * under])


def ratio_of_sums(sums: np.ndarray) -> tuple[float, float]:
    """Return the result of `ratio_moments` from the sums float64[6] of `unit_sums` over the units.

    Both numbers are NaN for fewer than two units, or a denominator that is not above 0.
    """
    n, over, under, squares, crossed, under_squares = sums.tolist()
    if n < 2 or under <= 0:
        return math.nan, math.nan
    ratio = over / under
    residual = max(0.0, squares - 2 * ratio * crossed + ratio * ratio * under_squares)
    return ratio, residual * (n / under) ** 2 / (n - 1)


def share_evidence(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Return the evidence against these shares: the Bayes factor of a Dirichlet mixture around them.

    If the shares hold, it ever reaches 1 / alpha with probability alpha at most, over all looks. Infinite if an arm of
    share 0 has units.
    """
    live = [(count, share) for count, share in zip(counts, shares, strict=True) if share > 0]
    if sum(count for count, _ in live) < sum(counts):
        return math.inf
    total = sum(counts)
    log_factor = math.lgamma(_PRIOR) - math.lgamma(total + _PRIOR)
    for count, share in live:
        log_factor += math.lgamma(count + _PRIOR * share) - math.lgamma(_PRIOR * share) - count * math.log(share)
    return math.exp(min(log_factor, 700.0))
