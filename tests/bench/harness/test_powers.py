"""The fitted power finds a planted power, and no bend without one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.harness.powers import MIN_ERROR, power_of, student_quantile

SIZES = [10.0**exponent for exponent in (4, 4.5, 5, 5.5, 6, 6.5, 7)]


def noisy(costs: np.ndarray, seed: int, sigma: float = MIN_ERROR) -> list[float]:
    return (costs * np.exp(np.random.default_rng(seed).normal(0, sigma, len(costs)))).tolist()


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_a_planted_power_lies_in_its_interval(exponent: float) -> None:
    truth = 3e-4 * np.array(SIZES) ** exponent
    exact = power_of(SIZES, truth.tolist())
    assert exact.exponent == pytest.approx(exponent, abs=1e-9)
    assert exact.low < exponent < exact.high
    fits = [power_of(SIZES, noisy(truth, seed)) for seed in range(300)]
    assert sum(fit.low <= exponent <= fit.high for fit in fits) >= 285
    assert sum(fit.bend is not None for fit in fits) <= 6  # three standard deviations, at five places


def test_noise_beyond_the_errors_widens_the_interval() -> None:
    truth = np.array(SIZES)
    fits = [power_of(SIZES, noisy(truth, seed, 0.4)) for seed in range(300)]
    assert sum(fit.low <= 1 <= fit.high for fit in fits) >= 270
    assert sum(fit.bend is not None for fit in fits) <= 30  # noise is no bend, and four points show none
    assert power_of(SIZES[:4], [1.0, 1.0, 1.0, 40.0]).bend is None
    power = power_of(SIZES, truth.tolist(), [0.3] * len(SIZES))
    assert power.high - power.low > 4 * (lambda fit: fit.high - fit.low)(power_of(SIZES, truth.tolist()))


def test_a_planted_bend_is_found_where_it_is() -> None:
    sizes = np.array(SIZES)
    flat_then_linear = np.where(sizes < SIZES[3], 1.0, sizes / SIZES[3])
    for seed in range(50):
        order = np.random.default_rng(seed).permutation(len(sizes))  # the order of points does not matter
        costs = np.array(noisy(flat_then_linear, seed))
        bend = power_of(sizes[order].tolist(), costs[order].tolist()).bend
        assert bend is not None
        assert bend.size == pytest.approx(SIZES[3])
        assert bend.before == pytest.approx(0, abs=0.15)
        assert bend.after == pytest.approx(1, abs=0.15)
    assert str(power_of(SIZES, flat_then_linear.tolist())).endswith("up to 316,228 and 1.00 beyond")


def test_two_points_have_the_interval_of_their_errors() -> None:
    fit = power_of([1, 2], [8.0, 4.0])
    assert (fit.exponent, fit.points, fit.bend) == (pytest.approx(-1), 2, None)
    assert fit.high - fit.exponent == pytest.approx(1.96 * math.sqrt(2) * MIN_ERROR / math.log(2))


@pytest.mark.parametrize(
    ("sizes", "costs"), [([1], [1.0]), ([2, 2], [1.0, 1.0]), ([1, 2], [0.0, 1.0]), ([1, 2], [1.0])]
)
def test_what_has_no_power_is_refused(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="two different sizes"):
        power_of(sizes, costs)


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.706), (2, 4.303), (9, 2.262), (10, 2.228), (15, 2.131), (20, 2.086), (60, 2.000), (1000, 1.962)],
)
def test_the_quantile_is_the_printed_one(freedom: int, printed: float) -> None:
    assert student_quantile(freedom) == pytest.approx(printed, abs=0.003)


def test_more_points_never_widen_an_interval() -> None:
    values = [student_quantile(freedom) for freedom in range(1, 100)]
    assert values == sorted(values, reverse=True)
