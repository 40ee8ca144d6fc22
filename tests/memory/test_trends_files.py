"""Trends on disk: mapped as written; a damaged file is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.memory.trends import TrendSettings, TrendTables
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from tests.support.memory.trend_logs import START, random_sessions, tables_of

N_ITEMS = 30
CHOSEN = TrendSettings(half_lives=(0.1, 0.2, 0.5, 1, 2, 24, 100), window=5, max_neighbors=12)


@pytest.fixture(scope="module")
def tables() -> TrendTables:
    return tables_of(random_sessions(60, N_ITEMS, 2), N_ITEMS, CHOSEN)


@pytest.fixture
def saved(tables: TrendTables, tmp_path: Path) -> Path:
    tables.save(tmp_path / "trends")
    return tmp_path / "trends"


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        TrendTables.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "rebuild" in str(caught.value)


def test_a_file_is_mapped_and_holds_everything(tables: TrendTables, saved: Path) -> None:
    read = TrendTables.load(saved)
    assert read.settings == tables.settings
    for name, array in read.arrays().items():
        assert not array.flags.writeable
        assert not array.flags.owndata
        np.testing.assert_array_equal(array, tables.arrays()[name])
    assert read.n_bytes == tables.n_bytes


def test_empty_tables_survive(tmp_path: Path) -> None:
    tables_of([], 0, CHOSEN).save(tmp_path / "none")
    assert TrendTables.load(tmp_path / "none").n_items == 0


def set_at(place: int | tuple[int, int], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("row_offsets", set_at(0, 1), r"row_offsets\[0\] is 1, not 0"),
        ("row_offsets", set_at(3, 10**9), r"row_offsets\[3\] ends a run longer than 12"),
        ("row_offsets", set_at(3, -1), r"row_offsets\[3\] is less than the one before"),
        ("row_offsets", lambda a: a[:-1], "must have 29 entries"),
        ("row_offsets", lambda a: a[:0], r"row_offsets must \w+ at least"),
        ("neighbors", set_at(2, 30), r"neighbors\[2\] is 30, outside 0\.\.29"),
        ("neighbors", set_at(2, -1), r"neighbors\[2\] is -1, outside 0\.\.29"),
        ("neighbors", lambda a: a.astype(np.int64), "neighbors must be a C-contiguous int32 vector"),
        ("neighbors", lambda a: a[:-1], r"values must have \d+ entries on axis 0"),
        ("values", set_at((3, 1), 0x7F80), r"values\[3\] .*negative"),
        ("values", set_at((3, 9), 0x8001), r"values\[3\] .*negative"),
        ("totals", set_at((4, 1), np.nan), r"totals\[4\] .*negative"),
        ("counts", set_at((5, 13), -1), r"counts\[5\] .*negative"),
        ("counts", set_at((5, 0), np.inf), r"counts\[5\] .*negative"),
        ("sums", set_at(2, np.inf), r"sums\[0\] .*negative"),
        ("times", set_at((1, 0), 2 * START), r"times\[1\] holds times that do not fit"),
        ("times", set_at((1, 1), 2 * START), r"times\[1\] holds times that do not fit"),
        ("times", set_at((1, 0), -1), r"times\[1\] holds times that do not fit"),
        ("clock", set_at(1, 5), r"clock\[1\] is not the newest click's"),
        ("clock", set_at(7, -1), r"clock\[7\] is no"),
        ("clock", set_at(7, 2**60), r"clock\[7\] is no"),
        ("settings", set_at(0, 2), "its layout is 2, not 1"),
        ("settings", set_at(1, 0), "trends: half_lives=.* is out of range"),
        ("settings", set_at(1, np.nan), "trends: half_lives=.* is out of range"),
        ("settings", set_at(7, np.inf), "trends: half_lives=.* is out of range"),
        ("settings", set_at(2, 0.1), "trends: half_lives=.* is out of range"),
        ("settings", set_at(8, 0.5), "trends: window=0.5 is out of range"),
        ("settings", set_at(9, 3), r"row_offsets\[\d+\] ends a run longer than 3"),
        ("settings", lambda a: a[:-1], "it has no settings of trends"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(
    saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    arrays = {key: array.copy() for key, array in map_tensors(saved).items()}
    write_tensors(saved, {**arrays, name: change(arrays[name])})
    assert_refused(saved, reason)


@pytest.mark.parametrize("name", ["neighbors", "clock", "settings"])
def test_a_missing_array_is_named(saved: Path, name: str) -> None:
    arrays = dict(map_tensors(saved))
    del arrays[name]
    write_tensors(saved, arrays)
    assert_refused(saved, "it has no settings" if name == "settings" else f"'{name}' is missing")


def test_a_foreign_array_is_named(saved: Path) -> None:
    write_tensors(saved, {**map_tensors(saved), "weights": np.zeros(3)})
    assert_refused(saved, "'weights' is not an array of the trends")


def test_any_damaged_byte_is_refused_or_harmless(tables: TrendTables, saved: Path) -> None:
    """Every reader works with arrays that pass the checks."""
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    refused, fine = 0, 0
    items, begins, ends = np.arange(5, dtype=np.int32), np.array([0, 2]), np.array([2, 5])
    for place in rng.integers(0, len(data), 120):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.unlink()  # a file that is still mapped must not change
        saved.write_bytes(damaged)
        try:
            live = TrendTables.load(saved).live(N_ITEMS)
        except DataError:
            refused += 1
            continue
        now = np.full(2, int(live.counters.newest))
        live.click(np.array([1, 1]), np.array([3, 4], np.int32), now)
        ids = live.candidates(items, begins, ends, now, 6)
        assert np.isfinite(live.features(items, begins, ends, now, ids)).all()
        fine += 1
    assert refused > 10
    assert fine > 50


def test_made_by_hand_they_are_checked_too(tables: TrendTables) -> None:
    with pytest.raises(DataError, match=r"trends: neighbors\[0\] is 99, outside 0\.\.29; rebuild"):
        replace(tables, neighbors=np.full_like(tables.neighbors, 99))
    with pytest.raises(UsageError, match="window=0 is out of range"):
        TrendSettings(window=0)
    with pytest.raises(DataError, match=r"trends: times\[0\] is -1"):
        tables_of([[(-1, 2)]], 3, CHOSEN)
    with pytest.raises(DataError, match=r"trends: items\[0\] is 2, outside 0\.\.1"):
        tables_of([[(1, 2)]], 2, CHOSEN)
