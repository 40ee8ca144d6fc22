"""Ranks, metrics and their intervals, also of slices and pairs: against brute force, by hand, by their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.evaluation import resampling
from mtaw_fast.evaluation.metrics import gains_of, listed_rank, pessimistic_rank, session_bootstrap
from mtaw_fast.evaluation.resampling import SessionBootstrap, _student, few_sessions
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


@pytest.mark.parametrize("count", [10, 30])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("metric", ["hits", "ranks", "difference"])
def test_one_of_twenty_intervals_misses_with_few_sessions_too(count: int, rate: float, metric: str) -> None:
    """2,000 slices whose samples of a session hang together, of hits, reciprocal ranks or differences."""
    rng = np.random.default_rng(count)

    def drawn(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.minimum(rng.geometric(0.4, shape), 10)
        hits = rng.random((*shape, 10)) < rng.beta(3 * rate, 3 * (1 - rate), shape)[..., None]
        of_hit = {
            "hits": np.ones(hits.shape), "ranks": 1 / np.minimum(20, np.exp(rng.exponential(1.0, hits.shape)) // 1),
            "difference": np.where(rng.random(hits.shape) < 0.7, 1.0, -1.0),
        }[metric]  # fmt: skip
        return 100 * (hits * of_hit * (np.arange(10) < sizes[..., None])).sum(axis=2), sizes.astype(np.float64)

    many = drawn((1, 400_000))
    truth = many[0].sum() / many[1].sum()
    bounds = np.array([[-100.0 if metric == "difference" else 0.0], [100.0]])
    missed = 0
    for over, under in zip(*drawn((2_000, count)), strict=True):
        low, high = few_sessions(over[:, None], under, bounds)
        missed += not low[0] <= truth <= high[0]
    assert missed / 2_000 <= 0.05 + 0.01
    assert (high - low)[0] > 0


def test_students_quantile_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for degrees in (3, 4.5, 10, 29, 1_000):
        assert _student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.01)
