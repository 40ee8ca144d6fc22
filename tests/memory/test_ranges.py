"""Tables built by item ranges equal those of one pass to the bit, with any shards and number of ranges."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.ranges import item_ranges, join_ranges, touching, write_range
from mtaw_fast.memory.settings import MemorySettings


def by_ranges(
    folder: Path, sessions: Sessions, n_items: int, asked: MemorySettings, count: int, cuts: list[int]
) -> MemoryTables:
    bounds = [0, *cuts, len(sessions)]
    shards = [sessions.slice(begin, end) for begin, end in itertools.pairwise(bounds)]
    asked = asked.resolved(len(sessions))
    parts = []
    for first, last in item_ranges(np.bincount(sessions.items, minlength=n_items), count):
        parts.append(folder / f"rows-{first}")
        write_range(parts[-1], iter(shards), n_items, asked, first, last)
    join_ranges(folder / "tables", parts, shards, asked)
    assert not list(folder.glob(".*"))
    return MemoryTables.load(folder / "tables")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    n_sessions=st.integers(1, 40),
    n_items=st.integers(1, 12),
    count=st.integers(1, 14),
    cut=st.floats(0, 1),
    limits=st.sampled_from([(0, 0), (3, 2), (1, 1)]),
)
def test_equals_one_pass(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_sessions: int,
    n_items: int,
    count: int,
    cut: float,
    limits: tuple[int, int],
) -> None:
    rng = np.random.default_rng(seed)
    sessions = Sessions.from_lists([rng.integers(0, n_items, rng.integers(1, 9)) for _ in range(n_sessions)])
    chosen = MemorySettings(window=3, span=4, max_neighbors=limits[0], max_postings=limits[1])
    folder = tmp_path_factory.mktemp("ranges")
    tables = by_ranges(folder, sessions, n_items, chosen, count, [int(cut * n_sessions)])
    expected = MemoryTables.build(sessions, n_items, chosen)
    assert tables.settings == expected.settings
    for name, array in expected.arrays().items():
        assert array.dtype == getattr(tables, name).dtype
        assert np.array_equal(array, getattr(tables, name)), name


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


def test_only_sessions_with_the_items_are_kept() -> None:
    shards = [Sessions.from_lists([[0, 1], [2, 3], [1]]), Sessions.from_lists([[3], [2, 1, 2]])]
    kept = touching(shards, 1, 2)
    assert kept.items.tolist() == [0, 1, 1, 2, 1, 2]
    assert kept.lengths.tolist() == [2, 0, 1, 0, 3]


def test_what_fails_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
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
