"""Tables within a limit of memory use: equal to one pass, within the bound, no files left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import workload
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.memory import MemoryTables, bounded
from mtaw_fast.memory.bounded import MAX_RANGES, PassBytes, build_in_ranges, pass_bytes
from mtaw_fast.memory.settings import MemorySettings


def assert_same(made: MemoryTables, expected: MemoryTables) -> None:
    assert made.settings == expected.settings
    for name, array in expected.arrays().items():
        assert array.dtype == getattr(made, name).dtype
        assert np.array_equal(array, getattr(made, name)), name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 20), shard=st.sampled_from([1, 7, 1 << 20]))
def test_equals_one_pass(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, shard: int) -> None:
    rng = np.random.default_rng(seed)
    sessions = Sessions.from_lists([rng.integers(0, 9, rng.integers(0, 9)) for _ in range(rng.integers(0, 30))])
    chosen = MemorySettings(window=3, span=4, max_neighbors=int(rng.integers(0, 5)))
    folder = tmp_path_factory.mktemp("bounded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounded, "_SHARD", shard)
        assert_same(build_in_ranges(sessions, 9, chosen, count, folder), MemoryTables.build(sessions, 9, chosen))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("n_items", "limits"), [(400, (512, 500)), (5000, (512, 500)), (2000, (0, 0)), (300, (5, 3))])
def test_a_pass_takes_no_more_than_the_bound(n_items: int, limits: tuple[int, int]) -> None:
    """Return the bytes of the result and those that the native part reports (`kernels.native.memory_tables`)."""
    sessions = workload(n_items, 6000, seed=n_items)
    chosen = MemorySettings(max_neighbors=limits[0], max_postings=limits[1])
    bound, tables = pass_bytes(sessions, n_items, chosen), MemoryTables.build(sessions, n_items, chosen)
    rows = sum(array.nbytes for array in (tables.neighbors, tables.latest, tables.values, tables.postings))
    assert rows <= bound.rows
    copied = tables.session_items.nbytes + tables.session_offsets.nbytes + tables.totals.nbytes + tables.counts.nbytes
    assert copied + 9 * sessions.n_clicks + 4 * len(sessions) + 41 * n_items <= bound.fixed + 100


def test_ranges_that_keep_a_limit() -> None:
    need = PassBytes(fixed=100, rows=1000)
    assert need.total == 1100
    assert [need.ranges(limit) for limit in (1100, 1099, 600, 200, 101, 100, 1)] == [1, 2, 2, 10, 256, 256, 256]
    assert MAX_RANGES == 256


def test_what_is_wrong_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    sessions = Sessions.from_lists([[0, 1], [1, 5]])
    with pytest.raises(DataError, match=r"outside 0\.\.2"):
        build_in_ranges(sessions, 3, None, 2, tmp_path)
    with pytest.raises(UsageError, match="at least 1, not 0"):
        build_in_ranges(sessions, 6, None, 0, tmp_path)
    with pytest.raises(MtawError, match=r"cannot write into .*/none: No such file or directory; choose another folder"):
        build_in_ranges(sessions, 6, None, 2, tmp_path / "none")
    (tmp_path / ".tables-left").mkdir()
    bounded.remove_left(tmp_path)
    assert list(tmp_path.iterdir()) == []
