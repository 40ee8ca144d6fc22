"""Trends within a limit of memory use: equal to one pass, within the bound, no files left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import workload
from mtaw_fast.errors import DataError, MtawError
from mtaw_fast.kernels.native.trend_tables import build_trends
from mtaw_fast.memory.trend_ranges import build_trends_in_ranges, trend_bytes
from mtaw_fast.memory.trends import TrendSettings, TrendTables

N_ITEMS = 300
CHOSEN = TrendSettings(window=5, max_neighbors=12)


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    drawn = workload(N_ITEMS, 800, seed=3)
    rng = np.random.default_rng(0)
    context = rng.integers(0, 4, (drawn.n_clicks, 2)).astype(np.uint16)
    times = 1_700_000_000_000 + rng.integers(0, 10**9, drawn.n_clicks)
    return Sessions(drawn.items, drawn.offsets, times, None, context)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("sizes", [(), (3, 3)])
def test_equals_one_pass(tmp_path: Path, sessions: Sessions, count: int, sizes: tuple[int, ...]) -> None:
    times = sessions.times
    assert times is not None
    whole = TrendTables.build(sessions, times, N_ITEMS, CHOSEN, context_sizes=sizes)
    tables = build_trends_in_ranges(sessions, times, N_ITEMS, CHOSEN, count, tmp_path, context_sizes=sizes)
    assert tables.settings == whole.settings
    assert tables.arrays().keys() == whole.arrays().keys()
    for name, array in whole.arrays().items():
        assert tables.arrays()[name].dtype == array.dtype
        np.testing.assert_array_equal(tables.arrays()[name], array, err_msg=name)
    assert list(tmp_path.iterdir()) == []


def test_a_pass_takes_no_more_than_the_bound(sessions: Sessions) -> None:
    assert sessions.times is not None
    for chosen in (CHOSEN, TrendSettings(window=1), TrendSettings(max_neighbors=0)):
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
    bound = trend_bytes(by_time, N_ITEMS, CHOSEN)
    assert trend_bytes(mixed, N_ITEMS, CHOSEN).fixed == bound.fixed + 12 * sessions.n_clicks
    assert trend_bytes(sessions, N_ITEMS, CHOSEN).fixed == bound.fixed + (12 + 2 * 26) * sessions.n_clicks
    monkeypatch.setattr("mtaw_fast.memory.bounded._SHARD", 50)
    assert trend_bytes(by_time, N_ITEMS, CHOSEN) == bound


@pytest.mark.parametrize("lists", [[[], [3], [1, 2]], [[1, 2], [], [3]], [[1, 2], [3], []], [[], []]], ids=str)
def test_the_bound_of_sessions_of_which_some_are_empty(lists: list[list[int]]) -> None:
    plain = Sessions.from_lists(lists)
    by_time = Sessions(plain.items, plain.offsets, np.arange(plain.n_clicks))
    without = Sessions.from_lists([items for items in lists if items])
    assert trend_bytes(by_time, N_ITEMS, CHOSEN) == trend_bytes(without, N_ITEMS, CHOSEN)
    if plain.n_clicks:
        mixed = Sessions(plain.items, plain.offsets, np.array([2, 1, 0]))
        assert trend_bytes(mixed, N_ITEMS, CHOSEN).fixed > trend_bytes(by_time, N_ITEMS, CHOSEN).fixed


def test_a_range_outside_the_items_is_refused(sessions: Sessions) -> None:
    assert sessions.times is not None
    for first, last in ((-1, 5), (5, 4), (0, N_ITEMS + 1)):
        with pytest.raises(ValueError, match=r"must be a range within 0\.\.300"):
            build_trends(sessions.items, sessions.offsets, sessions.times, N_ITEMS, first=first, last=last)


def test_what_is_wrong_is_one_line_and_leaves_nothing(tmp_path: Path, sessions: Sessions) -> None:
    assert sessions.times is not None
    with pytest.raises(DataError, match=r"trends: .*outside 0\.\.9"):
        build_trends_in_ranges(sessions, sessions.times, 10, CHOSEN, 2, tmp_path)
    with pytest.raises(MtawError, match=r"cannot write into .*/none: No such file or directory; choose another folder"):
        build_trends_in_ranges(sessions, sessions.times, N_ITEMS, CHOSEN, 2, tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
