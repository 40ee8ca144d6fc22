"""Weighted metrics equal those of repeated samples."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation import report_of
from mtaw_fast.evaluation.metrics import METRICS, gains_of, means_of, session_bootstrap

RNG = np.random.default_rng(5)
COUNT = 200
RANKS = RNG.integers(0, 21, COUNT).astype(np.int32)
SESSION = np.sort(RNG.integers(0, 60, COUNT)).astype(np.int32)
COUNTS = RNG.integers(0, 5, COUNT)


def samples() -> Samples:
    prefixes = Sessions.from_lists([[number % 7] for number in range(COUNT)])
    return Samples(prefixes, np.full(COUNT, 3, np.int32), SESSION)


def test_means_and_intervals_equal_those_of_repeated_samples() -> None:
    report = report_of(RANKS, samples(), weights=COUNTS.astype(np.float32))
    gains = gains_of(np.repeat(RANKS, COUNTS))
    for name, value in means_of(gains).items():
        assert report.weighted[name] == pytest.approx(value, rel=1e-12)
    assert set(SESSION) != set(np.repeat(SESSION, COUNTS))  # sessions whose samples all have weight 0 are left out
    for name, interval in session_bootstrap(gains, np.repeat(SESSION, COUNTS)).items():
        assert report.weighted_intervals[name] == pytest.approx(interval, rel=1e-12)
    plain = report_of(RANKS, samples())
    assert (report.metrics, report.intervals) == (plain.metrics, plain.intervals)
    assert "weighted" not in plain.as_dict()
    assert set(report.as_dict()["weighted"]) == {*METRICS, "intervals"}


def test_ones_give_the_same_bits() -> None:
    report = report_of(RANKS, samples(), weights=np.ones(COUNT, np.float32))
    assert report.weighted == report.metrics
    assert report.weighted_intervals == report.intervals


def test_the_size_of_the_weights_is_nothing() -> None:
    small, large = (report_of(RANKS, samples(), weights=(COUNTS * factor).astype(np.float32)) for factor in (1, 1000))
    assert small.weighted == pytest.approx(large.weighted)


def test_what_cannot_be_weighed_is_refused() -> None:
    with pytest.raises(DataError, match="all samples have the weight 0"):
        report_of(RANKS, samples(), weights=np.zeros(COUNT, np.float32))
    with pytest.raises(UsageError, match="weights do not work with unseen targets"):
        report_of(RANKS, samples(), weights=np.ones(COUNT, np.float32), unseen=np.array([1], np.int32))
    assert np.isnan(means_of(gains_of(RANKS), np.zeros(COUNT))["P@20"])
