"""Trends: native tables equal the plain ones to the bit; updates agree with all clicks added in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mtaw_fast.kernels.native.trend_tables import build_trends
from mtaw_fast.kernels.native.trends import Trends, feature_names
from mtaw_fast.memory.trends import TrendSettings
from tests.memory.reference import trends as reference
from tests.native.builds import instruction_sets
from tests.support.memory.logs import assert_same_arrays
from tests.support.memory.trend_logs import (
    DAY,
    HOUR,
    MINUTE,
    START,
    Pair,
    feed,
    own_items,
    pair_of,
    random_sessions,
    tables_of,
)

N_ITEMS, CAPACITY = 30, 40
SETTINGS = TrendSettings(max_neighbors=0, window=4)
ISAS = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]
RTOL, ATOL = 3e-6, 1e-5  # of float32 sums and logarithms against float64 ones


def assert_rows_agree(pair: Pair, now: int) -> None:
    moment = pair.reference.at(now)
    rounding = 1e-7 if len(pair.reference.tables.neighbors) else 1e-12  # of the tables' factors, which are float32
    for item in range(CAPACITY):
        neighbors, values = pair.native.row(item, now)
        expected = moment.row(item)
        got = dict(zip(neighbors.tolist(), values, strict=True))
        zeros = np.zeros(10)
        for neighbor in got.keys() | expected.keys():
            np.testing.assert_allclose(
                got.get(neighbor, zeros), expected.get(neighbor, zeros), rtol=rounding, atol=rounding, err_msg=str(item)
            )
    counts = pair.native.counts(np.arange(CAPACITY, dtype=np.int32), now)
    wanted = np.array([[*moment.counts(item), *moment.ages(item)] for item in range(CAPACITY)])
    np.testing.assert_allclose(counts, wanted, rtol=3e-6, atol=1e-6)


def prefixes(seed: int, count: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return items, times, begins and ends of random prefixes, one of them long."""
    rng = np.random.default_rng(seed)
    lengths = [1, 25, *rng.integers(1, 6, count - 2)]
    items = rng.integers(0, CAPACITY, sum(lengths)).astype(np.int32)
    times = START + np.sort(rng.integers(0, DAY, len(items)))
    ends = np.cumsum(lengths)
    return items, times, ends - lengths, ends


def assert_features_agree(pair: Pair, now: int, seed: int) -> None:
    items, times, begins, ends = prefixes(seed)
    moments = np.full(len(begins), now)
    ids = pair.native.candidates(items, begins, ends, moments, 8)
    candidates = np.concatenate(
        [ids, np.tile(np.arange(CAPACITY - 3, CAPACITY, dtype=np.int32), (len(ids), 1))], axis=1
    )
    moment = pair.reference.ranked_at(now)
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        distinct = list(dict.fromkeys(i for i in candidates[row].tolist() if i >= 0))
        row_ids = np.array([distinct], np.int32)
        values = pair.native.features(items, begins[[row]], ends[[row]], moments[:1], row_ids, times)[0]
        own = own_items(items[begin:end].tolist())
        expected = moment.features(own, times[begin:end].tolist(), distinct)
        assert values.shape == expected.shape == (len(distinct), len(feature_names()))
        for k, name in enumerate(feature_names()):
            np.testing.assert_allclose(values[:, k], expected[:, k], rtol=RTOL, atol=ATOL, err_msg=name)


@pytest.mark.parametrize(("window", "most"), [(1, 0), (4, 5), (10, 256)])
def test_tables_equal_the_plain_ones_to_the_bit(window: int, most: int) -> None:
    settings = TrendSettings(window=window, max_neighbors=most)
    sessions = random_sessions(120, N_ITEMS, seed=window)
    for once_from in (None, 40):
        expected = reference.build(sessions, N_ITEMS, settings, once_from)
        assert len(expected.neighbors) > 100
        for threads in (1, 3):
            ours = tables_of(sessions, N_ITEMS, settings, threads, once_from)
            assert_same_arrays(ours.arrays(), expected.arrays())


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_stream_agrees_with_all_clicks_in_order(seed: int, once: bool) -> None:
    """With late clicks and forgotten sessions, with tables and without."""
    for n_base in (0, 80):
        tables = tables_of(random_sessions(n_base, N_ITEMS, seed), N_ITEMS, SETTINGS)
        pair = pair_of(tables, CAPACITY, once=once)
        now = feed(pair, 250, CAPACITY, seed + 10, START + 4 * DAY)
        counters = pair.native.counters
        assert counters.late > 5
        assert counters.clicks == sum(len(s) for s in pair.reference.sessions.values())
        for later in (now, now + 40 * MINUTE, now + 9 * DAY):
            assert_rows_agree(pair, later)
        assert_features_agree(pair, now, seed)
    for handle in list(pair.reference.sessions):
        pair.forget(handle)
    assert pair.native.counters.clicks == pair.native.counters.sessions == 0


def test_instruction_sets_give_the_same_bits() -> None:
    answers = []
    for isa in ISAS:
        pair = pair_of(tables_of(random_sessions(80, N_ITEMS, 3), N_ITEMS, SETTINGS), CAPACITY, isa)
        now = feed(pair, 150, CAPACITY, 4, START + 3 * DAY)
        items, times, begins, ends = prefixes(1)
        moments = np.full(len(begins), now)
        ids = pair.native.candidates(items, begins, ends, moments, 9)
        answers.append((ids, pair.native.features(items, begins, ends, moments, ids, times)))
    for ids, values in answers[1:]:
        np.testing.assert_array_equal(ids, answers[0][0])
        np.testing.assert_array_equal(values.view(np.uint32), answers[0][1].view(np.uint32))


def test_t0_moves_over_hundreds_of_half_lives() -> None:
    """The shortest lane passes thousands of half-lives, that of 4 h about 370; the sums equal those of all clicks."""
    pair = pair_of(tables_of(random_sessions(60, N_ITEMS, 6), N_ITEMS, SETTINGS), CAPACITY)
    now = feed(pair, 120, CAPACITY, 7, START + 3 * DAY)
    now = feed(pair, 240, CAPACITY, 8, now, step=12 * HOUR)
    assert now - START > 60 * DAY
    assert pair.native.counters.moves > 5
    assert_rows_agree(pair, now)
    now = feed(pair, 60, CAPACITY, 9, now + 400 * DAY)
    assert_rows_agree(pair, now)
    assert_features_agree(pair, now, 2)


def test_a_session_of_the_tables_is_forgotten() -> None:
    """What is left is what tables without it hold."""
    sessions = [s for s in random_sessions(40, N_ITEMS, 11) if len(s) > 2]
    pair = pair_of(tables_of(sessions, N_ITEMS, SETTINGS), CAPACITY)
    now = feed(pair, 60, CAPACITY, 13, START + 4 * DAY)
    for place in (0, 2):
        remaining = [s for i, s in enumerate(sessions) if i > place or i == 1]
        pair.forget_in_tables(sessions[place], remaining)
        assert_rows_agree(pair, now)
        assert_features_agree(pair, now, 3)


def test_a_forgotten_session_leaves_no_trace() -> None:
    """Trends that forgot sessions equal, up to rounding, trends that never saw them: candidates and features."""
    base = tables_of(random_sessions(60, N_ITEMS, 21), N_ITEMS, TrendSettings(window=4, max_neighbors=8))
    handles, items, times = stream(600, 5)
    times = np.sort(times) + 4 * DAY
    forgotten = np.isin(handles, np.unique(handles)[::4])
    seen, clean = base.live(CAPACITY), base.live(CAPACITY)
    seen.click(handles, items, times)
    for handle in np.unique(handles[forgotten]).tolist():
        assert seen.forget(handle)
    clean.click(handles[~forgotten], items[~forgotten], times[~forgotten])
    for live in (seen, clean):  # both list rising items again
        live.click(np.array([10**6]), np.array([0], np.int32), np.array([times.max() + 20_000]))
    now = int(times.max()) + 30_000
    prefix_items, clicked, begins, ends = prefixes(7)
    moments = np.full(len(begins), now)
    ids = seen.candidates(prefix_items, begins, ends, moments, 12)
    np.testing.assert_array_equal(np.sort(ids), np.sort(clean.candidates(prefix_items, begins, ends, moments, 12)))
    ours = seen.features(prefix_items, begins, ends, moments, ids, clicked)
    theirs = clean.features(prefix_items, begins, ends, moments, ids, clicked)
    # The pairs that are read follow the rows' histories; all else is equal.
    same = np.isclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert same.mean() > 0.98
    exact = [
        place for place, name in enumerate(feature_names()) if name.startswith(("t_all", "t_later", "t_la", "t_first"))
    ]
    assert same[..., exact].all()
    assert seen.counters.clicks == clean.counters.clicks


def test_a_query_reads_the_pairs_of_a_rebuilt_row() -> None:
    """A row of tables and delta is read as far as tables built from all sessions keep it."""
    chosen = TrendSettings(window=4, max_neighbors=8)
    sessions = random_sessions(80, N_ITEMS, 31)
    handles, items, times = stream(800, 6)
    times = np.sort(times) + 4 * DAY
    live = tables_of(sessions, N_ITEMS, chosen).live(CAPACITY)
    live.click(handles, items, times)
    clicks: dict[int, list] = {}
    for handle, item, time in zip(handles.tolist(), items.tolist(), times.tolist(), strict=True):
        clicks.setdefault(handle, []).append((time, item))
    rebuilt = tables_of([*sessions, *clicks.values()], CAPACITY, chosen).live(CAPACITY)
    now = np.array([int(times.max()) + 1000])
    all_items = np.arange(CAPACITY, dtype=np.int32)
    names = [feature_names().index(f"t_{way}_last_{lane}") for way in ("fwd", "bwd") for lane in range(4)]
    agree = total = 0
    for item in range(CAPACITY):
        others = np.delete(all_items, item)[None]
        arguments = np.array([item], np.int32), np.array([0]), np.array([1]), now, others
        ours, theirs = live.features(*arguments)[0][:, names], rebuilt.features(*arguments)[0][:, names]
        agree += int(np.isclose(ours, theirs, rtol=0, atol=0.05).all(axis=1).sum())
        total += others.shape[1]
    assert agree > 0.94 * total


def test_a_click_that_is_forgotten_after_a_long_pause_changes_nothing() -> None:
    """The newest click is an old one again, but the short lanes stay relative to the time of the forgotten one."""
    tables = tables_of(random_sessions(60, N_ITEMS, 21), N_ITEMS, SETTINGS)
    clean, live = tables.live(CAPACITY), tables.live(CAPACITY)
    live.click(np.array([1]), np.array([0], np.int32), np.array([START + 60 * DAY]))
    assert live.counters.moves > 0
    assert live.forget(1)
    now = live.counters.newest
    assert now == clean.counters.newest < START + 5 * DAY
    for ours, expected in zip(live.rising(now, 20), clean.rising(now, 20), strict=True):
        assert len(expected) > 10
        np.testing.assert_array_equal(ours, expected)
    items, times, begins, ends = prefixes(7)
    moments = np.full(len(begins), now)
    ids = clean.candidates(items, begins, ends, moments, 12)
    np.testing.assert_array_equal(live.candidates(items, begins, ends, moments, 12), ids)
    expected = clean.features(items, begins, ends, moments, ids, times)
    np.testing.assert_array_equal(live.features(items, begins, ends, moments, ids, times), expected)


def stream(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    times = START + np.cumsum(rng.integers(0, MINUTE, count)) - (rng.random(count) < 0.1) * HOUR
    return rng.integers(0, count // 4, count), rng.integers(0, CAPACITY, count).astype(np.int32), times


def test_batches_say_nothing() -> None:
    handles, items, times = stream(900, 1)
    whole, parts = (tables_of([], N_ITEMS, SETTINGS).live(CAPACITY, row_neighbors=8) for _ in range(2))
    whole.click(handles, items, times)
    for part in np.array_split(np.arange(900), 37):
        parts.click(handles[part], items[part], times[part])
    assert whole.counters == parts.counters
    assert whole.counters.cut > 0
    now = int(times.max())
    for item in range(CAPACITY):
        for a, b in zip(whole.row(item, now), parts.row(item, now), strict=True):
            np.testing.assert_array_equal(a, b)
        assert len(whole.row(item, now)[0]) <= 8


def test_sessions_can_be_built_from() -> None:
    """Tables rebuilt from the fed sessions equal those from the clicks in time order."""
    handles, items, times = stream(500, 2)
    fed = tables_of([], N_ITEMS, SETTINGS).live(CAPACITY)
    fed.click(handles, items, times)
    _, packed_items, packed_times, offsets = fed.sessions()
    lasts = packed_times[offsets[1:] - 1]
    assert (np.diff(lasts) >= 0).all()
    arrays = build_trends(packed_items, offsets, packed_times, CAPACITY, **SETTINGS.native)
    sessions: dict[int, list] = {}
    for handle, item, time in zip(handles.tolist(), items.tolist(), times.tolist(), strict=True):
        sessions.setdefault(handle, []).append((time, item))
    expected = reference.build(sorted(sessions.values(), key=lambda s: max(s)[0]), CAPACITY, SETTINGS)
    np.testing.assert_array_equal(arrays["counts"], expected.counts)
    np.testing.assert_array_equal(arrays["times"], expected.times)
    now = int(times.max())
    np.testing.assert_allclose(
        fed.counts(np.arange(CAPACITY, dtype=np.int32), now)[:, :14],
        expected.live(CAPACITY).counts(np.arange(CAPACITY, dtype=np.int32), now)[:, :14], rtol=2e-6, atol=1e-12,
    )  # fmt: skip


def test_clocks_that_jump_are_limited() -> None:
    fed = tables_of([], N_ITEMS, SETTINGS).live(CAPACITY, ahead=10_000)
    times = np.array([START, START + 10**12, -5, START + 9000])
    fed.click(np.arange(4), np.arange(4, dtype=np.int32), times, np.full(4, START))
    assert fed.counters.clamped == 2
    assert fed.counters.newest == START + 10_000
    _, items, kept, _ = fed.sessions()
    assert dict(zip(items.tolist(), kept.tolist(), strict=True)) == {0: START, 1: START + 10_000, 2: 0, 3: START + 9000}


def test_what_has_no_past_is_neutral() -> None:
    fed = tables_of([], 0, SETTINGS).live(CAPACITY)
    items, begins, ends, now = np.array([5], np.int32), np.array([0]), np.array([1]), np.array([START])
    assert (fed.candidates(items, begins, ends, now, 4) == -1).all()
    values = fed.features(items, begins, ends, now, np.array([[5, 6, -1]], np.int32))
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values[0, 0], values[0, 1])
    assert not values[0, 2].any()
    assert len(fed.rising(START, 10)[0]) == 0


def test_candidates_are_the_best_and_the_most_popular() -> None:
    pair = pair_of(tables_of(random_sessions(80, N_ITEMS, 3), N_ITEMS, SETTINGS), CAPACITY)
    now = feed(pair, 300, CAPACITY, 14, START + 3 * DAY, step=20_000)
    items, begins, ends = np.array([4, 2], np.int32), np.array([0]), np.array([2])
    ids = pair.native.candidates(items, begins, ends, np.array([now]), 5)[0]
    listed = ids[ids >= 0].tolist()
    assert len(set(listed)) == len(listed)
    assert not {2, 4} & set(listed)
    scores = pair.reference.ranked_at(now).pre_scores([2, 4])
    strongest = sorted(scores, key=lambda item: -scores[item])
    assert set(strongest[:3]) - {2, 4} <= set(listed)
    popular = pair.native.rising(now, 256)[0]
    assert set(popular[:50].tolist()) - {2, 4} <= set(listed)
    allowed = pair.native.candidates(items, begins, ends, np.array([now]), 0)[0]
    assert set(allowed[allowed >= 0].tolist()) == set(popular[:50].tolist()) - {2, 4}


def test_what_rises_comes_before_what_is_always_there() -> None:
    fed = tables_of([], N_ITEMS, SETTINGS).live(CAPACITY)
    steady = START + np.arange(0, 2 * DAY, 10 * MINUTE)
    burst = START + 2 * DAY - np.arange(30)[::-1] * MINUTE
    times = np.concatenate([steady, steady, burst])
    items = np.repeat([1, 2, 3], [len(steady), len(steady), len(burst)]).astype(np.int32)
    order = np.argsort(times, kind="stable")
    fed.click(np.arange(len(times)), items[order], times[order])
    ids, scores = fed.rising(START + 2 * DAY, 5)
    assert ids.tolist() == [3, 1, 2]
    assert (np.diff(scores) <= 0).all()
    assert fed.rising(START + 9 * DAY, 1)[0].tolist() == [1]


def test_a_ranking_counts_evidence_of_a_week_and_of_years_alike() -> None:
    pair = pair_of(tables_of(random_sessions(80, N_ITEMS, 3), N_ITEMS, SETTINGS), CAPACITY)
    week = feed(pair, 100, CAPACITY, 14, START + 3 * DAY, step=20_000) + 7 * DAY
    for now in (week - DAY, week, week + 3 * 365 * DAY):
        assert_features_agree(pair, now, 5)
    items, begins, ends = np.array([4, 2], np.int32), np.array([0]), np.array([2])
    moments = [np.array([now]) for now in (week - DAY, week + 2 * DAY, week + 3650 * DAY)]
    candidates = np.arange(N_ITEMS, dtype=np.int32)[None]
    before, after, years = (pair.native.features(items, begins, ends, now, candidates) for now in moments)
    np.testing.assert_array_equal(after, years)
    assert (before != after).any()


def test_wrong_arguments_are_named() -> None:
    tables = tables_of([], N_ITEMS, SETTINGS)
    fed = tables.live(CAPACITY)
    zeros = np.array([0])
    with pytest.raises(IndexError, match=r"items\[1\] is 40, outside 0\.\.39"):
        fed.click(np.array([0, 0]), np.array([1, 40], np.int32), np.array([START, START]))
    assert fed.counters.clicks == 0
    with pytest.raises(ValueError, match="of one length"):
        fed.click(zeros, np.array([1, 2], np.int32), zeros)
    with pytest.raises(ValueError, match="capacity must be in 30"):
        tables.live(3)
    with pytest.raises(IndexError, match=r"candidates\[0\] is 99"):
        fed.features(np.array([1], np.int32), zeros, zeros + 1, zeros, np.array([[99]], np.int32))
    with pytest.raises(ValueError, match="k must be in 1"):
        fed.rising(0, 0)
    with pytest.raises(ValueError, match="a click between them"):
        fed.candidates(np.array([1], np.int32), zeros, zeros, zeros, 3)


def test_readers_and_a_writer_at_once() -> None:
    """Every answer is from a consistent state: shares of a lane exceed 1 at most by the smoothing."""
    fed = tables_of([], N_ITEMS, SETTINGS).live(CAPACITY)
    handles, items, times = stream(4000, 3)
    done, failures = threading.Event(), []

    def read(trends: Trends) -> None:
        ids, begins, ends = np.array([1, 2, 3], np.int32), np.array([0]), np.array([3])
        while not done.is_set():
            now = np.array([times.max()])
            candidates = trends.candidates(ids, begins, ends, now, 8)
            if not np.isfinite(trends.features(ids, begins, ends, now, candidates)).all():
                failures.append(1)

    readers = [threading.Thread(target=read, args=(fed,)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for part in np.array_split(np.arange(4000), 40):
        fed.click(handles[part], items[part], times[part])
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert fed.counters.clicks == 4000


def test_an_item_that_begins_to_rise_is_listed_at_its_own_clicks() -> None:
    """The others are the 256 most popular ones as of the last multiple of 10 s; nothing is clicked after it."""
    fed = tables_of([], 0, SETTINGS).live(400)
    items = np.tile(np.arange(300, dtype=np.int32), 2)
    begin = START + np.arange(600)
    fed.click(np.arange(600), items, begin)
    assert 399 not in fed.rising(START + 700, 256)[0]
    fed.click(1000 + np.arange(50), np.full(50, 399, np.int32), START + 700 + np.arange(50))
    assert fed.rising(START + 750, 256)[0][0] == 399
    assert fed.rising(START + 12_000, 256)[0][0] == 399
