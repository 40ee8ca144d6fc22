"""Intervals of slices: means by brute force, coverage, groups of sessions, odd slices."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.evaluation import resampling
from mtaw_fast.evaluation.metrics import gains_of, session_bootstrap
from mtaw_fast.evaluation.resampling import SessionBootstrap


def clicks(seed: int, sessions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (gains float64[S, 4], session int[S]) of sessions whose samples hit or miss together."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, sessions)
    hits = np.repeat(rng.random(sessions) < 0.4, sizes)
    return gains_of(hits.astype(np.int32)), np.repeat(np.arange(sessions), sizes)


def test_means_and_counts_by_value() -> None:
    gains, session = clicks(0, 80)
    codes = np.random.default_rng(1).integers(-1, 4, len(gains))
    codes[codes == 2] = 3  # nobody has the value 2
    estimates = SessionBootstrap(session, 50).estimates(gains, codes, 4)
    for value in (0, 1, 3):
        chosen = codes == value
        assert estimates.means[value] == pytest.approx(gains[chosen].mean(axis=0))
        assert estimates.samples[value] == chosen.sum()
        assert estimates.sessions[value] == len(np.unique(session[chosen]))
        low, high = estimates.interval(value, 0) or (np.nan, np.nan)
        assert low < estimates.means[value, 0] < high
    assert np.isnan(estimates.means[2]).all()
    assert estimates.interval(2, 0) is None
    assert estimates.samples[2] == 0


def test_few_sessions_have_no_interval() -> None:
    gains, session = clicks(0, 30)
    codes = (session >= 9).astype(int)  # 9 sessions have the value 0
    estimates = SessionBootstrap(session, 50).estimates(gains, codes, 2)
    assert estimates.interval(0, 0) is None
    assert estimates.interval(1, 0) is not None
    assert SessionBootstrap(session, 50).estimates(gains, codes, 2, fewest=1).interval(0, 0) is not None


def test_intervals_agree_with_those_over_all_samples() -> None:
    gains, session = clicks(3, 700)
    estimates = SessionBootstrap(session).estimates(gains)
    low, high = session_bootstrap(gains, session)["P@20"]
    assert estimates.interval(0, 2) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_groups_of_sessions_have_the_same_width(monkeypatch: pytest.MonkeyPatch) -> None:
    gains, session = clicks(4, 3000)
    exact = SessionBootstrap(session).estimates(gains)
    monkeypatch.setattr(resampling, "MAX_UNITS", 400)
    grouped = SessionBootstrap(session).estimates(gains)
    assert grouped.means == pytest.approx(exact.means)
    assert grouped.sessions.tolist() == [3000]
    widths = [estimates.high[0, 0] - estimates.low[0, 0] for estimates in (exact, grouped)]
    assert widths[1] / widths[0] == pytest.approx(1, abs=0.12)


def test_a_paired_difference_of_equal_columns_is_nothing_and_noise_is_covered() -> None:
    """300 pairs of rankers of equal quality: at most about 5% of the intervals leave 0 out."""
    wrong = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 6, 80)
        session = np.repeat(np.arange(80), sizes)
        common = rng.random(80)[session]  # what is hard for one is hard for the other
        pair = [100.0 * (rng.random(len(session)) < common) for _ in range(2)]
        estimates = SessionBootstrap(session, 300, seed).estimates((pair[1] - pair[0])[:, None])
        low, high = estimates.interval(0, 0) or (0.0, 0.0)
        wrong += not low <= 0 <= high
    assert wrong <= 26  # 15 expected, sd 3.8; the percentile bootstrap of 80 sessions runs a little short
    nothing = SessionBootstrap(session).estimates((pair[0] - pair[0])[:, None])
    assert nothing.interval(0, 0) == (0, 0)
