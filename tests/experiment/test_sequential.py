"""Intervals that hold at every look: the formulas against scipy, and false alarms and power by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.experiment import simulate
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.sequential import (
    mixture_precision,
    multiplier,
    power_at,
    ratio_moments,
    share_evidence,
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
    ratios, variances = zip(*(ratio_moments(*rows) for rows in zip(hits, trials, strict=True)), strict=True)
    assert np.mean(variances) / 300 == pytest.approx(np.var(ratios), rel=0.06)
    assert math.isnan(ratio_moments(np.zeros(5), np.zeros(5))[0])
    assert math.isnan(ratio_moments(np.ones(1), np.ones(1))[1])


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


def test_daily_looks_without_a_difference_raise_few_alarms() -> None:
    """A short form of `python -m bench.experiment`: a fixed test that is read daily alarms in a quarter of the runs."""
    outcome = simulate(runs=150, days=28, sessions=400, effect=0.0, seed=1)
    for metric in ("click-through", "value"):
        assert outcome[metric]["alarms"] <= 0.05 + 0.02
        assert outcome[metric]["covered at all looks"] >= 0.95 - 0.02
        assert outcome[metric]["fixed test"] > 0.15


def test_a_known_effect_is_found_with_the_promised_power() -> None:
    outcome = simulate(runs=60, days=14, sessions=None, effect=0.1, seed=2, power=0.8)
    assert outcome["promised"] == pytest.approx(0.8, abs=0.001)
    assert outcome["click-through"]["alarms"] >= 0.8 - 0.1
    assert outcome["click-through"]["wrong sign"] == 0
    assert outcome["median day of the first alarm"] < 14
