"""Ranks, metrics and their intervals against brute force and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.evaluation.metrics import METRICS, gains_of, listed_rank, means_of, pessimistic_rank, session_bootstrap
from tests.support.evaluation.rankers import INF, NAN, brute_force_rank, tables


@given(tables, st.data())
@settings(max_examples=150, deadline=None)
def test_dense_ranks_equal_brute_force(table: list[list[float]], data: st.DataObject) -> None:
    targets = [data.draw(st.integers(0, len(table[0]) - 1)) for _ in table]
    expected = [brute_force_rank(row, target) for row, target in zip(table, targets, strict=True)]
    assert pessimistic_rank(np.array(table, np.float32), np.array(targets)).tolist() == expected


@pytest.mark.parametrize(
    ("ids", "scores", "target", "rank"),
    [
        ([4, 7, 9], [3.0, 2.0, 1.0], 7, 2),
        ([4, 7, 9], [3.0, 2.0, 1.0], 5, 0),
        ([4, 7, 9], [2.0, 2.0, 2.0], 4, 3),
        ([4, 7, 9], [2.0, 2.0, 1.0], 4, 2),
        ([4, 7, 9], [NAN, 2.0, 1.0], 7, 2),
        ([4, 7, 9], [NAN, 2.0, 1.0], 4, 0),
        ([4, 7, 9], [3.0, 2.0, NAN], 7, 3),
        ([4, 7, 9], [1.0, 2.0, 3.0], 4, 3),
        ([4, 7, 9], [-INF, -INF, 3.0], 4, 3),
    ],
)
def test_listed_rank_by_hand(ids: list[int], scores: list[float], target: int, rank: int) -> None:
    padded = np.array([[*ids, -1, -1]]), np.array([[*scores, -INF, NAN]])
    assert listed_rank(*padded, np.array([target])).tolist() == [rank]


def test_metrics_by_hand() -> None:
    ranks = np.array([1, 2, 10, 11, 20, 0], np.int32)
    expected = {
        "P@10": 100 * 3 / 6,
        "MRR@10": 100 * (1 + 1 / 2 + 1 / 10) / 6,
        "P@20": 100 * 5 / 6,
        "MRR@20": 100 * (1 + 1 / 2 + 1 / 10 + 1 / 11 + 1 / 20) / 6,
    }
    assert means_of(gains_of(ranks)) == pytest.approx(expected)


def test_intervals_have_their_nominal_coverage() -> None:
    """400 data sets of 60 sessions; all samples of a session hit or miss together, true P = 40."""
    generator = np.random.default_rng(1)
    covered = per_sample_covered = 0
    for trial in range(400):
        sizes = generator.integers(1, 12, size=60)
        ranks = np.repeat(generator.random(60) < 0.4, sizes).astype(np.int32)
        gains, session = gains_of(ranks), np.repeat(np.arange(60), sizes)
        low, high = session_bootstrap(gains, session, resamples=400, seed=trial)["P@20"]
        covered += low <= 40 <= high
        low, high = session_bootstrap(gains, np.arange(len(ranks)), resamples=400, seed=trial)["P@20"]
        per_sample_covered += low <= 40 <= high
    # 95% of 400 is 380, +- 4.4; the percentile bootstrap of 60 sessions runs a few points short.
    assert 356 <= covered <= 396
    assert per_sample_covered < 280  # intervals that ignore sessions


def test_interval_width_matches_the_ratio_estimator() -> None:
    generator = np.random.default_rng(2)
    sizes = generator.integers(1, 20, size=3000)
    hits = np.repeat(generator.random(3000) < 0.3, sizes)
    session = np.repeat(np.arange(3000), sizes)
    low, high = session_bootstrap(gains_of(hits.astype(np.int32)), session, resamples=2000)["P@20"]
    # Delta method: the variance of sum(h) / sum(n) over sessions is G * var(h - p n) / sum(n)^2.
    p = hits.mean()
    residual = np.bincount(session, hits) - p * sizes
    deviation = 100 * np.sqrt(3000 * residual.var()) / sizes.sum()
    assert (high - low) / (2 * 1.96 * deviation) == pytest.approx(1, abs=0.08)
    assert (high + low) / 2 == pytest.approx(100 * p, abs=0.2 * deviation)


def test_bootstrap_in_several_steps_equals_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gains, session = gains_of(np.arange(40, dtype=np.int32)), np.arange(40) // 3
    whole = session_bootstrap(gains, session, resamples=100)
    monkeypatch.setattr("mtaw_fast.evaluation.metrics._BOOTSTRAP_CELLS", 100)
    stepped = session_bootstrap(gains, session, resamples=100)
    assert all(stepped[name] == pytest.approx(whole[name]) for name in METRICS)
