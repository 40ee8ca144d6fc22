"""Memory tables on disk: mapped as written; a damaged file is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from tests.support.memory.logs import assert_same_tables, random_log

N_ITEMS = 40
CHOSEN = MemorySettings(window=7, span=9, max_neighbors=12, max_postings=5)


@pytest.fixture(scope="module")
def tables() -> MemoryTables:
    return MemoryTables.build(random_log(60, N_ITEMS, seed=2), N_ITEMS, CHOSEN)


@pytest.fixture
def saved(tables: MemoryTables, tmp_path: Path) -> Path:
    tables.save(tmp_path / "memory.safetensors")
    return tmp_path / "memory.safetensors"


def test_a_file_is_mapped_and_holds_everything(tables: MemoryTables, saved: Path) -> None:
    read = MemoryTables.load(saved)
    assert_same_tables(read, tables)
    for array in read.arrays().values():
        assert not array.flags.writeable
        assert not array.flags.owndata
        assert array.ctypes.data % array.itemsize == 0
    later = random_log(9, N_ITEMS, seed=4)
    assert_same_tables(read.update(later, 3), tables.update(later, 3))


def test_empty_tables_survive(tmp_path: Path) -> None:
    empty = MemoryTables.build(Sessions.from_lists([]), 0)
    empty.save(tmp_path / "none")
    assert_same_tables(MemoryTables.load(tmp_path / "none"), empty)


def test_a_path_may_be_a_text(tables: MemoryTables, tmp_path: Path) -> None:
    tables.save(f"{tmp_path}/tables")
    assert_same_tables(MemoryTables.load(f"{tmp_path}/tables"), tables)


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        MemoryTables.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("rebuild", "again"))


def set_at(place: int | tuple[int, int], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("row_offsets", set_at(0, 1), r"row_offsets\[0\] is 1, not 0"),
        ("row_offsets", set_at(-1, 10**9), r"row_offsets\[40\] ends a run longer than 12"),
        ("row_offsets", set_at(3, -5), r"row_offsets\[3\] is less than the one before"),
        ("row_offsets", lambda a: a[:-1], r"totals must have 39 entries on axis 0, not 40"),
        ("row_offsets", lambda a: a[:0], r"row_offsets must \w+ at least"),
        ("row_offsets", lambda a: a.astype(np.int32), "row_offsets must be a C-contiguous int64 vector, not int32"),
        ("row_offsets", lambda a: a.reshape(1, -1), "row_offsets must be .*, not one of 2 dimensions"),
        ("post_offsets", set_at(-1, 0), r"post_offsets\[40\] is less than the one before"),
        ("post_offsets", lambda a: a[:-1], "post_offsets must have 41 entries on axis 0, not 40"),
        ("session_offsets", set_at(0, -1), r"session_offsets\[0\] is -1, not 0"),
        ("session_offsets", lambda a: np.append(a, a[-1] + 1), r"session_offsets\[61\] is \d+, not \d+"),
        ("session_offsets", lambda a: a[:0], r"session_offsets must \w+ at least"),
        ("neighbors", set_at(0, N_ITEMS), r"neighbors\[0\] is 40, outside 0\.\.39"),
        ("neighbors", set_at(-1, -1), r"neighbors\[\d+\] is -1, outside 0\.\.39"),
        ("neighbors", lambda a: a[:-1], r"latest must have \d+ entries on axis 0, not \d+"),
        ("latest", set_at(2, 60), r"latest\[2\] is 60, outside 0\.\.59"),
        ("latest", set_at(2, -(2**31)), r"latest\[2\] is -2147483648, outside 0\.\.59"),
        ("values", set_at((3, 1), 0x7FC0), r"values\[3\] .*negative"),
        ("values", set_at((3, 1), 0x8000), r"values\[3\] .*negative"),
        ("values", lambda a: a[:, :5], r"values must have 6 entries on axis 1, not 5"),
        ("values", lambda a: a.view(np.int16), "values must be a C-contiguous uint16 matrix, not int16"),
        ("totals", set_at((5, 2), np.nan), r"totals\[5\] .*negative"),
        ("totals", set_at((5, 2), np.inf), r"totals\[5\] .*negative"),
        ("totals", set_at((5, 2), -1.0), r"totals\[5\] .*negative"),
        ("counts", set_at((1, 0), 0), r"counts\[1\] holds numbers that do not fit each other"),
        ("counts", set_at((1, 1), -1), r"counts\[1\] holds numbers that do not fit each other"),
        ("counts", set_at((1, 1), 61), r"counts\[1\] holds numbers that do not fit each other"),
        ("counts", set_at((1, 2), 10**6), r"counts\[1\] holds numbers that do not fit each other"),
        ("counts", set_at((1, 3), -1), r"counts\[1\] holds numbers that do not fit each other"),
        ("counts", set_at((1, 4), 60), r"counts\[1\] holds numbers that do not fit each other"),
        ("counts", set_at((1, 4), -1), r"counts\[1\] holds numbers that do not fit each other"),
        ("postings", set_at(1, 60), r"postings\[1\] is 60, outside 0\.\.59"),
        ("postings", set_at(1, 0), r"postings\[1\] does not come after the one before"),
        ("session_items", set_at(7, 40), r"session_items\[7\] is 40, outside 0\.\.39"),
        ("settings", set_at(0, 3), "its layout is 3, not 1 or 2"),
        ("settings", set_at(0, 2), "'counts' is not an array of the tables"),
        ("settings", set_at(1, 0), "memory: window=0 is out of range"),
        ("settings", set_at(1, 2.5), "memory: window=2.5 is out of range"),
        ("settings", set_at(4, np.nan), "memory: recency=nan is out of range"),
        ("settings", set_at(5, np.nan), "memory: max_neighbors=nan is out of range"),
        ("settings", set_at(5, 1e300), "memory: max_neighbors=.* is out of range"),
        ("settings", set_at(5, 3), r"row_offsets\[\d+\] ends a run longer than 3"),
        ("settings", set_at(6, 2), r"post_offsets\[\d+\] ends a run longer than 2"),
        ("settings", lambda a: a[:-1], "it has no settings of memory tables"),
        ("settings", lambda a: a.astype(np.float32), "it has no settings of memory tables"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(
    saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    arrays = {key: array.copy() for key, array in map_tensors(saved).items()}
    assert_damage_is_refused(saved, {**arrays, name: change(arrays[name])}, reason)


def assert_damage_is_refused(path: Path, arrays: dict[str, np.ndarray], reason: str) -> None:
    write_tensors(path, arrays)
    assert_refused(path, reason)


@pytest.mark.parametrize("name", ["neighbors", "session_items", "settings"])
def test_a_missing_array_is_named(saved: Path, name: str) -> None:
    arrays = dict(map_tensors(saved))
    del arrays[name]
    assert_damage_is_refused(saved, arrays, "it has no settings" if name == "settings" else f"'{name}' is missing")


def test_a_foreign_array_is_named(saved: Path) -> None:
    arrays = {**map_tensors(saved), "weights": np.zeros(3)}
    assert_damage_is_refused(saved, arrays, "'weights' is not an array of the tables")


def test_truncated_and_missing_files_are_refused(saved: Path) -> None:
    data = saved.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:size])
        assert_refused(saved, "not a whole safetensors file")
    saved.unlink()
    assert_refused(saved, "is missing")


def test_any_damaged_byte_is_refused_or_harmless(tables: MemoryTables, saved: Path) -> None:
    """An update of tables that pass the checks works: it reads every array that a query reads."""
    data = bytearray(saved.read_bytes())
    rng = np.random.default_rng(0)
    reasons = []
    for place in rng.integers(0, len(data), 300):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.unlink()  # a file that is still mapped must not change
        saved.write_bytes(damaged)
        with caught(reasons):
            MemoryTables.load(saved).update(random_log(3, N_ITEMS, seed=1), expire=2)
    assert 20 < len(reasons) < 300
    assert all("\n" not in reason for reason in reasons)


@contextmanager
def caught(reasons: list[str]) -> Iterator[None]:
    """Append the message of a DataError."""
    try:
        yield
    except DataError as error:
        reasons.append(str(error))


def test_made_by_hand_they_are_checked_too(tables: MemoryTables) -> None:
    with pytest.raises(DataError, match=r"memory tables: neighbors\[0\] is 99, outside 0\.\.39; rebuild"):
        replace(tables, neighbors=np.full_like(tables.neighbors, 99))
    with pytest.raises(UsageError, match="recency must be a number"):
        replace(tables, settings=CHOSEN)
