"""Intervals that hold at every look: the formulas against scipy, and false alarms and power by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.experiment import wrong_at_looks
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.sequential import (
    difference_interval,
    log_evidence,
    mixture_precision,
    multiplier,
    power_at,
    ratio_of_sums,
    share_evidence,
    share_interval,
    unit_sums,
    units_needed,
)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_the_mixture_is_the_best_one_for_the_planned_size(alpha: float) -> None:
    special = pytest.importorskip("scipy.special")
    planned = 5_000
    expected = (-special.lambertw(-(alpha**2) * math.exp(-1), -1).real - 1) / planned
    assert mixture_precision(planned, alpha) == pytest.approx(expected, rel=1e-12)
    optimize = pytest.importorskip("scipy.optimize")

    def width(log_precision: float) -> float:
        return float(multiplier(planned, planned * mixture_precision(planned, alpha) / math.exp(log_precision), alpha))

    optimum = optimize.minimize_scalar(width, bounds=(-20, 0), method="bounded", options={"xatol": 1e-9})
    assert math.exp(optimum.x) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("n", "planned"), [(1, 10), (250, 20_000), (20_000, 20_000), (10**7, 20_000)])
def test_the_interval_is_where_the_normal_mixture_reaches_one_in_alpha(n: int, planned: int) -> None:
    """The mixture of likelihood ratios of a mean, by scipy's densities, is 1 / alpha at the end of the interval."""
    stats = pytest.importorskip("scipy.stats")
    alpha = 0.05
    mean = float(multiplier(n, planned, alpha)) / math.sqrt(n)
    spread = 1 / n
    mixed = stats.norm.logpdf(mean, scale=math.sqrt(spread + mixture_precision(planned, alpha)))
    assert mixed - stats.norm.logpdf(mean, scale=math.sqrt(spread)) == pytest.approx(-math.log(alpha), rel=1e-9)


def test_the_power_is_the_normal_one_and_the_needed_size_reaches_it() -> None:
    stats = pytest.importorskip("scipy.stats")
    deviation, effect, alpha = 1.4, 0.05, 0.05
    for power in (0.5, 0.8, 0.95):
        n = units_needed(effect, deviation, alpha, power)
        assert power_at(n, effect, deviation, n, alpha) == pytest.approx(power, abs=1e-4)
        reach = effect * math.sqrt(n) / deviation - float(multiplier(n, n, alpha))
        assert power_at(n, effect, deviation, n, alpha) == pytest.approx(stats.norm.cdf(reach), abs=1e-12)
        assert power_at(n - 50, effect, deviation, n, alpha) < power
    assert power_at(0, effect, deviation, 100, alpha) == power_at(10, effect, 0.0, 100, alpha) == 0
    with pytest.raises(UsageError, match="difference of 0"):
        units_needed(0.0, deviation, alpha, 0.8)


def test_a_ratio_has_the_variance_of_its_repetitions() -> None:
    rng = np.random.default_rng(0)
    trials = rng.integers(1, 6, (4_000, 300)).astype(float)
    hits = rng.binomial(trials.astype(int), rng.beta(2, 8, trials.shape)).astype(float)
    ratios, variances = zip(
        *(ratio_of_sums(unit_sums(*rows).sum(axis=1)) for rows in zip(hits, trials, strict=True)), strict=True
    )
    assert np.mean(variances) / 300 == pytest.approx(np.var(ratios), rel=0.06)
    assert math.isnan(ratio_of_sums(unit_sums(np.zeros(5), np.zeros(5)).sum(axis=1))[0])
    assert math.isnan(ratio_of_sums(unit_sums(np.ones(1), np.ones(1)).sum(axis=1))[1])


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (40, 60), (5_000, 5_200), (9_000, 1_100)])
def test_the_evidence_on_shares_is_scipys(counts: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    shares = (0.9, 0.1) if counts[0] > 5 * counts[1] else (0.5, 0.5)
    expected = stats.dirichlet_multinomial.logpmf(counts, 100 * np.array(shares), sum(counts))
    expected -= stats.multinomial.logpmf(counts, sum(counts), shares)
    assert math.log(share_evidence(counts, shares)) == pytest.approx(expected, abs=1e-6)
    assert share_evidence((*counts, 0), (*shares, 0.0)) == share_evidence(counts, shares)
    assert share_evidence((*counts, 1), (*shares, 0.0)) == math.inf


def test_wrong_shares_are_seldom_suspected_and_broken_ones_found() -> None:
    """300 splits that are halves, looked at on 60 days: about 1% alarms at most; 52% of 100,000 are found."""
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        first = np.cumsum(rng.binomial(400, 0.5, 60))
        n = 400 * np.arange(1, 61)
        looks = zip(first.tolist(), (n - first).tolist(), strict=True)
        alarms += any(share_evidence(look, (0.5, 0.5)) >= 100 for look in looks)
    assert alarms <= 3 + 3
    assert share_evidence((52_000, 48_000), (0.5, 0.5)) > 100


def test_the_bound_of_an_exponential_holds() -> None:
    """exp(x - x**2 / 6) <= 1 + x + x**2 / 3, from which the evidence follows for any tail."""
    x = np.linspace(-20, 20, 400_001)
    assert (np.exp(x - x**2 / 6) <= 1 + x + x**2 / 3 + 1e-12).all()


METRICS = ("click-through", "click-through, visitors", "buyers", "value", "value, long tail")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("effect", [0.0, 0.2])
def test_looks_at_every_session_of_unequal_arms_are_seldom_wrong(metric: str, effect: float) -> None:
    """A small form of `python -m bench.experiment --cases grid`; each arm's own variance is wrong in a third."""
    found = wrong_at_looks(np.random.default_rng(1), 100, 5_000, metric, 0.05, 0.02, effect)
    assert found["every session"] <= 0.05 + 0.05
    assert found["every session"] >= max(found["every 25"], found["weekly"])
    if metric == "value":
        assert found["variance of each arm"] > 0.15


@pytest.mark.long(caught="test_looks_at_every_session_of_unequal_arms_are_seldom_wrong")
@pytest.mark.parametrize("share", [0.5, 0.3, 0.2, 0.1, 0.05, 0.01])
def test_looks_at_every_session_are_seldom_wrong(share: float) -> None:
    for metric in METRICS:
        for rate in (0.001, 0.01, 0.05, 0.3):
            for effect in (0.0, 0.2):
                found = wrong_at_looks(np.random.default_rng(2), 60, 20_000, metric, share, rate, effect)
                assert found["every session"] <= 0.05 + 0.07, (metric, rate, effect)


@pytest.mark.parametrize("share", [1 / 3, 0.05])
def test_one_of_two_differences_is_seldom_wrong(share: float) -> None:
    found = wrong_at_looks(np.random.default_rng(4), 100, 5_000, "buyers", share, 0.05, 0.0, others=2)
    assert found["every session"] <= 0.05 + 0.05


def test_an_interval_is_what_the_evidence_does_not_refute() -> None:
    rng = np.random.default_rng(3)
    over, under = rng.binomial(1, 0.05, 9_000).astype(float), np.ones(9_000)
    first, other = unit_sums(over[:8_000], under[:8_000]), unit_sums(over[8_000:], under[8_000:])
    sums = [part.sum(axis=1)[:, None] for part in (first, other)]
    low, high = difference_interval(sums[0], sums[1], 9_000, 0.05)
    for end, outside in ((low, -1e-6), (high, 1e-6)):
        assert log_evidence(sums[0], sums[1], end, 9_000, 0.05) == pytest.approx(math.log(20), abs=1e-6)
        assert log_evidence(sums[0], sums[1], end + outside, 9_000, 0.05) > math.log(20)
        assert log_evidence(sums[0], sums[1], end - outside, 9_000, 0.05) < math.log(20)


def test_an_arm_without_events_is_uncertain() -> None:
    """Of 3,800 sessions of one arm 2% bought, of 200 of the other none: that is no difference yet."""
    first = unit_sums(np.repeat((0.0, 1.0), (3_720, 80)), np.ones(3_800)).sum(axis=1)
    other = unit_sums(np.zeros(200), np.ones(200)).sum(axis=1)
    low, high = difference_interval(first[:, None], other[:, None], 20_000, 0.05)
    assert low[0] < 0 < high[0]
    low, high = share_interval(other, first + other, 20_000, 0.05)
    assert low == pytest.approx(0, abs=1e-12)
    assert high > 3 / 200  # a fixed 95% interval goes that far
    one_event = unit_sums(np.repeat((0.0, 1.0), (19, 1)), np.ones(20)).sum(axis=1)
    assert share_interval(one_event, first + one_event, 20_000, 0.05)[0] == 0
    nothing = unit_sums(np.zeros(200), np.ones(200)).sum(axis=1)
    assert np.isnan(difference_interval(nothing[:, None], other[:, None], 20_000, 0.05)).all()
