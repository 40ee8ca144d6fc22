"""Tables and trends built by item ranges: equal to one pass to the bit, within a bound of memory use, no files left."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import workload
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.kernels.native.trend_tables import build_trends
from mtaw_fast.memory import MemoryTables, bounded
from mtaw_fast.memory.bounded import (
    MAX_RANGES,
    PassBytes,
    build_in_ranges,
    build_trends_in_ranges,
    pass_bytes,
    trend_bytes,
)
from mtaw_fast.memory.ranges import item_ranges, join_ranges, write_range
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.memory.trends import TrendSettings, TrendTables
from tests.support.memory.logs import assert_same_arrays

N_ITEMS = 300
TRENDS = TrendSettings(window=5, max_neighbors=12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    count=st.integers(1, 20),
    shard=st.sampled_from([1, 7, 1 << 20]),
    limits=st.sampled_from([(0, 0), (3, 2), (1, 1), (5, 500)]),
)
def test_tables_equal_one_pass(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, shard: int, limits: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    sessions = Sessions.from_lists([rng.integers(0, 9, rng.integers(0, 9)) for _ in range(rng.integers(0, 30))])
    chosen = MemorySettings(window=3, span=4, max_neighbors=limits[0], max_postings=limits[1])
    folder = tmp_path_factory.mktemp("bounded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "_SHARD", shard)
        tables, expected = build_in_ranges(sessions, 9, chosen, count, folder), MemoryTables.build(sessions, 9, chosen)
    assert tables.settings == expected.settings
    assert_same_arrays(tables.arrays(), expected.arrays())
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    drawn = workload(N_ITEMS, 800, seed=3)
    rng = np.random.default_rng(0)
    context = rng.integers(0, 4, (drawn.n_clicks, 2)).astype(np.uint16)
    times = 1_700_000_000_000 + rng.integers(0, 10**9, drawn.n_clicks)
    return Sessions(drawn.items, drawn.offsets, times, None, context)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("sizes", [(), (3, 3)])
def test_trends_equal_one_pass(tmp_path: Path, sessions: Sessions, count: int, sizes: tuple[int, ...]) -> None:
    times = sessions.times
    assert times is not None
    whole = TrendTables.build(sessions, times, N_ITEMS, TRENDS, context_sizes=sizes)
    tables = build_trends_in_ranges(sessions, times, N_ITEMS, TRENDS, count, tmp_path, context_sizes=sizes)
    assert tables.settings == whole.settings
    assert_same_arrays(tables.arrays(), whole.arrays())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("n_items", "limits"), [(400, (512, 500)), (5000, (512, 500)), (2000, (0, 0)), (300, (5, 3))])
def test_a_pass_of_tables_takes_no_more_than_the_bound(n_items: int, limits: tuple[int, int]) -> None:
    sessions = workload(n_items, 6000, seed=n_items)
    chosen = MemorySettings(max_neighbors=limits[0], max_postings=limits[1])
    bound, tables = pass_bytes(sessions, n_items, chosen), MemoryTables.build(sessions, n_items, chosen)
    rows = sum(array.nbytes for array in (tables.neighbors, tables.latest, tables.values, tables.postings))
    assert rows <= bound.rows
    copied = tables.session_items.nbytes + tables.session_offsets.nbytes + tables.totals.nbytes + tables.counts.nbytes
    assert copied + 9 * sessions.n_clicks + 4 * len(sessions) + 41 * n_items <= bound.fixed + 100


def test_a_pass_of_trends_takes_no_more_than_the_bound(sessions: Sessions) -> None:
    assert sessions.times is not None
    for chosen in (TRENDS, TrendSettings(window=1), TrendSettings(max_neighbors=0)):
        plain = Sessions(sessions.items, sessions.offsets, sessions.times)
        tables = TrendTables.build(plain, sessions.times, N_ITEMS, chosen)
        bound = trend_bytes(plain, N_ITEMS, chosen)
        assert 2 * (tables.neighbors.nbytes + tables.values.nbytes) <= bound.rows
        other_bytes = tables.totals.nbytes + tables.counts.nbytes + tables.times.nbytes + tables.row_offsets.nbytes
        assert 2 * other_bytes + 17 * sessions.n_clicks <= bound.fixed


def test_the_bound_counts_the_copy_of_sessions_that_are_not_by_time(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    times = np.arange(sessions.n_clicks) - 1000 * session  # later sessions are older
    by_time = Sessions(sessions.items, sessions.offsets, times - times.min())
    mixed = Sessions(sessions.items, sessions.offsets, (times - times.min())[::-1].copy())
    bound = trend_bytes(by_time, N_ITEMS, TRENDS)
    assert trend_bytes(mixed, N_ITEMS, TRENDS).fixed == bound.fixed + 12 * sessions.n_clicks
    assert trend_bytes(sessions, N_ITEMS, TRENDS).fixed == bound.fixed + (12 + 2 * 26) * sessions.n_clicks
    monkeypatch.setattr("mtaw_fast.memory.bounded._SHARD", 50)
    assert trend_bytes(by_time, N_ITEMS, TRENDS) == bound


@pytest.mark.parametrize("lists", [[[], [3], [1, 2]], [[1, 2], [], [3]], [[1, 2], [3], []], [[], []]], ids=str)
def test_the_bound_of_sessions_of_which_some_are_empty(lists: list[list[int]]) -> None:
    plain = Sessions.from_lists(lists)
    by_time = Sessions(plain.items, plain.offsets, np.arange(plain.n_clicks))
    without = Sessions.from_lists([items for items in lists if items])
    assert trend_bytes(by_time, N_ITEMS, TRENDS) == trend_bytes(without, N_ITEMS, TRENDS)
    if plain.n_clicks:
        mixed = Sessions(plain.items, plain.offsets, np.array([2, 1, 0]))
        assert trend_bytes(mixed, N_ITEMS, TRENDS).fixed > trend_bytes(by_time, N_ITEMS, TRENDS).fixed


def test_ranges_that_keep_a_limit() -> None:
    need = PassBytes(fixed=100, rows=1000)
    assert need.total == 1100
    assert [need.ranges(limit) for limit in (1100, 1099, 600, 200, 101, 100, 1)] == [1, 2, 2, 10, 256, 256, 256]
    assert MAX_RANGES == 256


def test_ranges_cover_all_items_and_balance_their_clicks() -> None:
    clicks = np.random.default_rng(0).zipf(1.5, 5000).clip(max=2000)
    for count in (1, 2, 7, 64):
        parts = item_ranges(clicks, count)
        assert [first for first, _ in parts[1:]] == [last for _, last in parts[:-1]]
        assert (parts[0][0], parts[-1][1]) == (0, 5000)
        heaviest = max(int((clicks[first:last] + 1).sum()) for first, last in parts)
        assert heaviest <= (clicks + 1).sum() / count + clicks.max() + 1
    assert item_ranges(np.array([5, 5]), 9) == [(0, 1), (1, 2)]
    with pytest.raises(UsageError, match="at least 1"):
        item_ranges(clicks, 0)


def test_a_range_outside_the_items_is_refused(sessions: Sessions) -> None:
    assert sessions.times is not None
    for first, last in ((-1, 5), (5, 4), (0, N_ITEMS + 1)):
        with pytest.raises(ValueError, match=r"must be a range within 0\.\.300"):
            build_trends(sessions.items, sessions.offsets, sessions.times, N_ITEMS, first=first, last=last)


def test_what_is_wrong_is_one_line_and_leaves_nothing(tmp_path: Path, sessions: Sessions) -> None:
    few, times = Sessions.from_lists([[0, 1], [1, 5]]), sessions.times
    assert times is not None
    with pytest.raises(DataError, match=r"outside 0\.\.2"):
        build_in_ranges(few, 3, None, 2, tmp_path)
    with pytest.raises(DataError, match=r"trends: .*outside 0\.\.9"):
        build_trends_in_ranges(sessions, times, 10, TRENDS, 2, tmp_path)
    with pytest.raises(UsageError, match="at least 1, not 0"):
        build_in_ranges(few, 6, None, 0, tmp_path)
    no_folder = r"cannot write into .*/none: No such file or directory; choose another folder"
    with pytest.raises(MtawError, match=no_folder):
        build_in_ranges(few, 6, None, 2, tmp_path / "none")
    with pytest.raises(MtawError, match=no_folder):
        build_trends_in_ranges(sessions, times, N_ITEMS, TRENDS, 2, tmp_path / "none")
    (tmp_path / ".tables-left").mkdir()
    bounded.remove_left(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_range_or_a_join_that_fails_leaves_no_file(tmp_path: Path) -> None:
    sessions = Sessions.from_lists([[0, 1], [1, 2]])
    chosen = MemorySettings().resolved(2)
    with pytest.raises(DataError, match="outside 0"):
        write_range(tmp_path / "rows", [sessions], 2, chosen, 0, 2)
    with pytest.raises(DataError, match="no range of 0"):
        write_range(tmp_path / "rows", [sessions], 3, chosen, 2, 4)
    write_range(tmp_path / "rows", [sessions], 3, chosen, 0, 3)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # as a disk that becomes full while it is written
    try:
        with pytest.raises(MtawError, match="File too large; free some space"):
            join_ranges(tmp_path / "tables", [tmp_path / "rows"], [sessions], chosen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
