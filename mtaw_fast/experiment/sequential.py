"""Intervals and tests that are valid at every look, so that a running experiment may be read daily.

A fixed test at 5% that is repeated every day raises a false alarm in far more than 5% of the experiments. The interval
here is a confidence sequence: with probability 1 - alpha it contains the truth at all sample sizes together. So one
may stop whenever it excludes zero.

- Difference of two arms (`log_evidence`): the arms are drawn after the sessions, so to speak. Without a difference, the
  sum over sessions of (arm - share) * residual has independent signs whatever the outcomes are: rare, heavy-tailed, or
  of one visitor. Delyon, "Exponential inequalities for sums of weakly dependent variables" (Electronic Journal of
  Probability 14, 2009) bounds such sums without any condition on tails, and Howard, Ramdas, McAuliffe and Sekhon,
  "Time-uniform Chernoff bounds via nonnegative supermartingales" (Probability Surveys 17, 2020) at all sizes together.
  To take the drawn arms as the only chance is the idea of Ham, Bojinov, Lindon and Tingley, "Design-based confidence
  sequences" (2022).
- The boundary is Robbins' normal mixture, which is also that of mSPRT (Johari, Koomen, Pekelis and Walsh, KDD 2017).
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
_DOUBLINGS, _HALVINGS = 40, 50  # of the search for an end of an interval
FEWEST_EVENTS = 50  # of both arms before there is an interval of their difference, see `event_count`
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


def unit_sums(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Return float64[6, n]: the terms of each unit in the six sums that the functions below take.

    over, under: float64[n], the terms of each unit in the numerator and the denominator of a metric. A unit is a
    session, for example with its clicked and all its rankings: the rankings of one session are not independent.
    """
    return np.stack([np.ones_like(over), over, under, over * over, over * under, under * under])


def ratio_of_sums(sums: np.ndarray) -> tuple[float, float]:
    """Return the ratio of two sums over units, and the variance of one unit in it, by the delta method.

    sums: float64[6] of `unit_sums` over the units. Both numbers are NaN for fewer than two units, or a denominator that
    is not above 0.
    """
    n, _, under = sums[:3].tolist()
    if n < 2 or under <= 0:
        return math.nan, math.nan
    ratio = float(sums[1] / sums[2])
    return ratio, float(_squares(sums, ratio)) * (n / under) ** 2 / (n - 1)


def _squares(sums: np.ndarray, ratio: Any) -> Any:
    """Return the sum over units of (over - ratio * under)**2."""
    return np.maximum(sums[3] - 2 * ratio * sums[4] + ratio * ratio * sums[5], 0.0)


def event_count(sums: np.ndarray) -> Any:
    """Return how many events of equal size vary as much as those of the numerator: Kish, "Survey Sampling" (1965).

    sums: float64[6, ...]. Few large purchases among many count as few events, for it is they that decide the mean.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(sums[1] ** 2 / sums[3])


def log_evidence(first: np.ndarray, other: np.ndarray, difference: Any, planned: float, alpha: float) -> np.ndarray:
    """Return the log of the evidence that the ratio of `other` minus that of `first` is not `difference`.

    If it is, this ever reaches log(1 / alpha) with probability alpha at most, over all looks. first, other: float64[6,
    ...], sums of `unit_sums`. planned: units of both arms at which `multiplier` is to be least. 0 where an arm has no
    denominator, or no unit differs from another.

    With w = over - r * under the residual of a unit, where r is the ratio of its arm under the hypothesis, a its arm (0
    or 1), q the share of arm 1, and X = (a - q) w: for any l, exp(l S - l**2 V / 2) is a supermartingale, with
    S = sum X and V = sum (X**2 + 2 E X**2) / 3, as exp(x - x**2 / 6) <= 1 + x + x**2 / 3 (Delyon; Howard et al.). It is
    mixed over l, normal with the variance 1 / rho. Mean r, share q and scale rho are those of both arms together, which
    do not depend on the arms if there is no difference; `python -m bench.experiment` shows what that costs.

    Two things keep it valid where the arms differ. E X**2 grows with the ratio of the arm, as that of counts does, so
    an arm without events is not one without variance. And V is at least sum X**2, if arms have other variances.
    """
    both = first + other
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio, share, part = both[1] / both[2], other[0] / both[0], other[2] / both[2]
        distance = part * first[2] * (other[1] / other[2] - first[1] / first[2] - difference)  # S
        spread = share * (1 - share) * (_squares(first, ratio) + _squares(other, ratio))
        realized = (1 - share) ** 2 * _squares(other, ratio + (1 - part) * difference)
        realized = realized + share**2 * _squares(first, ratio - part * difference)
        expected = spread * np.maximum(0.0, 1 + (1 - 2 * share) * difference / ratio)
        variance = np.maximum(realized, (realized + 2 * expected) / 3)  # V
        scale = spread / both[0] / mixture_precision(planned, alpha)  # rho
        evidence = distance**2 / (2 * (variance + scale)) - np.log1p(variance / scale) / 2
    return np.where((first[2] > 0) & (other[2] > 0) & (spread > 0), evidence, 0.0)


def difference_interval(
    first: np.ndarray, other: np.ndarray, planned: float, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of a difference: what `log_evidence` does not refute.

    first, other: float64[6, L], sums at each of L looks. NaN before there are FEWEST_EVENTS, and where nothing is
    refuted, as with a handful of sessions in an arm.
    """
    both = first + other
    with np.errstate(divide="ignore", invalid="ignore"):
        center = other[1] / other[2] - first[1] / first[2]
        step = np.sqrt(_squares(both, both[1] / both[2]) / first[0] / other[0]) * both[0] / both[2]
    known = (event_count(both) >= FEWEST_EVENTS) & (first[2] > 0) & (other[2] > 0) & (step > 0)
    center, step = np.where(known, center, 0.0), np.where(known, step, 1.0)
    ends = []
    for sign in (-1.0, 1.0):

        def refuted(width: np.ndarray, sign: float = sign) -> np.ndarray:
            return log_evidence(first, other, center + sign * width, planned, alpha) >= -math.log(alpha)

        outer = step
        for _ in range(_DOUBLINGS):
            if (found := refuted(outer) | ~known).all():
                break
            outer = np.where(found, outer, 2 * outer)
        inner = np.zeros_like(outer)
        for _ in range(_HALVINGS):
            middle = (inner + outer) / 2
            is_out = refuted(middle)
            inner, outer = np.where(is_out, inner, middle), np.where(is_out, middle, outer)
        ends.append(np.where(known & found, center + sign * outer, np.nan))
    both_known = ~np.isnan(ends[0] + ends[1])
    return np.where(both_known, ends[0], np.nan), np.where(both_known, ends[1], np.nan)


def share_interval(sums: np.ndarray, everything: np.ndarray, planned: float, alpha: float) -> tuple[Any, Any]:
    """Return the ends of the interval of a ratio between 0 and 1, as of clicked rankings; NaN without a denominator.

    sums: float64[6, ...], of an arm. everything: of all arms. It is Wilson's score interval (Journal of the American
    Statistical Association 22, 1927) with `multiplier` standard errors, whose variance is the hypothesis', times how
    much more the sessions of all arms vary than independent rankings (Kish's design effect). So it has a width without
    any event too. It begins at 0 until the arm has FEWEST_EVENTS: an early first event says little.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, mean = sums[1] / sums[2], everything[1] / everything[2]
        design = _squares(everything, mean) / (everything[2] * mean * (1 - mean))
        design = np.maximum(np.nan_to_num(design, nan=1.0, posinf=1.0), 1.0)
        width = multiplier(everything[0], planned, alpha) ** 2 * design / sums[2]
        center = (ratio + width / 2) / (1 + width)
        radius = np.sqrt(width * ratio * (1 - ratio) + width**2 / 4) / (1 + width)
    low = np.where(event_count(sums) < FEWEST_EVENTS, 0.0, center - radius)
    return np.where(np.isnan(center), np.nan, low), center + radius


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
