"""Student's quantiles against printed tables."""

from __future__ import annotations

import pytest

from bench.harness.student import quantile


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.706), (2, 4.303), (9, 2.262), (10, 2.228), (15, 2.131), (20, 2.086), (60, 2.000), (1000, 1.962)],
)
def test_the_quantile_is_the_printed_one(freedom: int, printed: float) -> None:
    assert quantile(freedom) == pytest.approx(printed, abs=0.003)


def test_more_points_never_widen_an_interval() -> None:
    values = [quantile(freedom) for freedom in range(1, 100)]
    assert values == sorted(values, reverse=True)
