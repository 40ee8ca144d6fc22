"""Tables of memory and trends on disk: mapped as written; a damaged file is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.trends import TrendSettings, TrendTables
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from tests.support.memory.logs import assert_same_arrays, assert_same_tables, random_log
from tests.support.memory.trend_logs import START, random_sessions, tables_of

N_ITEMS, N_TRENDING = 40, 30
CHOSEN = MemorySettings(window=7, span=9, max_neighbors=12, max_postings=5)
TRENDS = TrendSettings(half_lives=(0.1, 0.2, 0.5, 1, 2, 24, 100), window=5, max_neighbors=12)
Tables = MemoryTables | TrendTables
KINDS: dict[str, type[Tables]] = {"tables": MemoryTables, "trends": TrendTables}


@pytest.fixture(scope="module")
def made() -> dict[str, Tables]:
    tables = MemoryTables.build(random_log(60, N_ITEMS, seed=2), N_ITEMS, CHOSEN)
    return {"tables": tables, "trends": tables_of(random_sessions(60, N_TRENDING, 2), N_TRENDING, TRENDS)}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def saved(made: dict[str, Tables], kind: str, tmp_path: Path) -> Path:
    made[kind].save(tmp_path / kind)
    return tmp_path / kind


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        KINDS[path.name].load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("rebuild", "again"))


def test_a_file_is_mapped_and_holds_everything(made: dict[str, Tables], kind: str, saved: Path) -> None:
    read, tables = KINDS[kind].load(saved), made[kind]
    assert read.settings == tables.settings
    assert read.n_bytes == tables.n_bytes
    assert_same_arrays(read.arrays(), tables.arrays())
    for array in read.arrays().values():
        assert not array.flags.writeable
        assert not array.flags.owndata
        assert array.ctypes.data % array.itemsize == 0
    if isinstance(read, MemoryTables):
        assert isinstance(tables, MemoryTables)
        later = random_log(9, N_ITEMS, seed=4)
        assert_same_tables(read.update(later, 3), tables.update(later, 3))


def test_empty_tables_survive_at_a_path_as_a_text(tmp_path: Path) -> None:
    empty = MemoryTables.build(Sessions.from_lists([]), 0)
    empty.save(f"{tmp_path}/none")
    assert_same_tables(MemoryTables.load(f"{tmp_path}/none"), empty)
    tables_of([], 0, TRENDS).save(tmp_path / "trends")
    assert TrendTables.load(tmp_path / "trends").n_items == 0


def set_at(place: int | tuple[int, int], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("kind", "name", "change", "reason"),
    [
        ("tables", "row_offsets", set_at(0, 1), r"row_offsets\[0\] is 1, not 0"),
        ("tables", "row_offsets", set_at(-1, 10**9), r"row_offsets\[40\] ends a run longer than 12"),
        ("tables", "row_offsets", set_at(3, -5), r"row_offsets\[3\] is less than the one before"),
        ("tables", "row_offsets", lambda a: a[:-1], r"totals must have 39 entries on axis 0, not 40"),
        ("tables", "row_offsets", lambda a: a[:0], r"row_offsets must \w+ at least"),
        ("tables", "row_offsets", lambda a: a.astype(np.int32), "row_offsets must be a C-contiguous int64 vector"),
        ("tables", "row_offsets", lambda a: a.reshape(1, -1), "row_offsets must be .*, not one of 2 dimensions"),
        ("tables", "post_offsets", set_at(-1, 0), r"post_offsets\[40\] is less than the one before"),
        ("tables", "post_offsets", lambda a: a[:-1], "post_offsets must have 41 entries on axis 0, not 40"),
        ("tables", "session_offsets", set_at(0, -1), r"session_offsets\[0\] is -1, not 0"),
        ("tables", "session_offsets", lambda a: np.append(a, a[-1] + 1), r"session_offsets\[61\] is \d+, not \d+"),
        ("tables", "session_offsets", lambda a: a[:0], r"session_offsets must \w+ at least"),
        ("tables", "neighbors", set_at(0, N_ITEMS), r"neighbors\[0\] is 40, outside 0\.\.39"),
        ("tables", "neighbors", set_at(-1, -1), r"neighbors\[\d+\] is -1, outside 0\.\.39"),
        ("tables", "neighbors", lambda a: a[:-1], r"latest must have \d+ entries on axis 0, not \d+"),
        ("tables", "latest", set_at(2, 60), r"latest\[2\] is 60, outside 0\.\.59"),
        ("tables", "values", set_at((3, 1), 0x7FC0), r"values\[3\] .*negative"),
        ("tables", "values", lambda a: a[:, :5], r"values must have 6 entries on axis 1, not 5"),
        ("tables", "values", lambda a: a.view(np.int16), "values must be a C-contiguous uint16 matrix, not int16"),
        ("tables", "totals", set_at((5, 2), np.nan), r"totals\[5\] .*negative"),
        ("tables", "totals", set_at((5, 2), -1.0), r"totals\[5\] .*negative"),
        ("tables", "counts", set_at((1, 0), 0), r"counts\[1\] holds numbers that do not fit each other"),
        ("tables", "counts", set_at((1, 1), 61), r"counts\[1\] holds numbers that do not fit each other"),
        ("tables", "counts", set_at((1, 2), 10**6), r"counts\[1\] holds numbers that do not fit each other"),
        ("tables", "counts", set_at((1, 4), 60), r"counts\[1\] holds numbers that do not fit each other"),
        ("tables", "postings", set_at(1, 60), r"postings\[1\] is 60, outside 0\.\.59"),
        ("tables", "postings", set_at(1, 0), r"postings\[1\] does not come after the one before"),
        ("tables", "session_items", set_at(7, 40), r"session_items\[7\] is 40, outside 0\.\.39"),
        ("tables", "settings", set_at(0, 2), "its layout is 2, not 1; train, or export, again"),
        ("tables", "settings", set_at(5, 3), r"row_offsets\[\d+\] ends a run longer than 3"),
        ("tables", "settings", set_at(6, 2), r"post_offsets\[\d+\] ends a run longer than 2"),
        ("trends", "row_offsets", set_at(0, 1), r"row_offsets\[0\] is 1, not 0"),
        ("trends", "row_offsets", set_at(3, 10**9), r"row_offsets\[3\] ends a run longer than 12"),
        ("trends", "row_offsets", set_at(3, -1), r"row_offsets\[3\] is less than the one before"),
        ("trends", "row_offsets", lambda a: a[:-1], "must have 29 entries"),
        ("trends", "neighbors", set_at(2, 30), r"neighbors\[2\] is 30, outside 0\.\.29"),
        ("trends", "neighbors", set_at(2, -1), r"neighbors\[2\] is -1, outside 0\.\.29"),
        ("trends", "neighbors", lambda a: a.astype(np.int64), "neighbors must be a C-contiguous int32 vector"),
        ("trends", "neighbors", lambda a: a[:-1], r"values must have \d+ entries on axis 0"),
        ("trends", "values", set_at((3, 1), 0x7F80), r"values\[3\] .*negative"),
        ("trends", "values", set_at((3, 9), 0x8001), r"values\[3\] .*negative"),
        ("trends", "totals", set_at((4, 1), np.nan), r"totals\[4\] .*negative"),
        ("trends", "counts", set_at((5, 13), -1), r"counts\[5\] .*negative"),
        ("trends", "counts", set_at((5, 0), np.inf), r"counts\[5\] .*negative"),
        ("trends", "sums", set_at(2, np.inf), r"sums\[0\] .*negative"),
        ("trends", "times", set_at((1, 0), 2 * START), r"times\[1\] holds times that do not fit"),
        ("trends", "times", set_at((1, 0), -1), r"times\[1\] holds times that do not fit"),
        ("trends", "clock", set_at(1, 5), r"clock\[1\] is not the newest click's"),
        ("trends", "clock", set_at(7, -1), r"clock\[7\] is no"),
        ("trends", "settings", set_at(0, 2), "its layout is 2, not 1; train, or export, again"),
        ("trends", "settings", set_at(9, 3), r"row_offsets\[\d+\] ends a run longer than 3"),
    ],
    indirect=["kind"],
)  # fmt: skip
def test_wrong_arrays_are_refused(
    kind: str, saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    arrays = {key: array.copy() for key, array in map_tensors(saved).items()}
    write_tensors(saved, {**arrays, name: change(arrays[name])})
    assert_refused(saved, reason)


def use(tables: Tables) -> None:
    """Read every array that a query reads."""
    if isinstance(tables, MemoryTables):
        tables.update(random_log(3, N_ITEMS, seed=1), expire=2)
        return
    live = tables.live(N_TRENDING)
    now, items = np.full(2, int(live.counters.newest)), np.arange(5, dtype=np.int32)
    live.click(np.array([1, 1]), np.array([3, 4], np.int32), now)
    ranges = items, np.array([0, 2]), np.array([2, 5]), now
    assert np.isfinite(live.features(*ranges, live.candidates(*ranges, 6))).all()


def test_made_by_hand_they_are_checked_too(made: dict[str, Tables]) -> None:
    for kind, named, last in (("tables", "memory tables", N_ITEMS - 1), ("trends", "trends", N_TRENDING - 1)):
        with pytest.raises(DataError, match=rf"{named}: neighbors\[0\] is 99, outside 0\.\.{last}; rebuild"):
            replace(made[kind], neighbors=np.full_like(made[kind].neighbors, 99))
    tables = made["tables"]
    assert isinstance(tables, MemoryTables)
    with pytest.raises(UsageError, match="recency must be a number"):
        replace(tables, settings=CHOSEN)
    with pytest.raises(DataError, match=r"trends: times\[0\] is -1"):
        tables_of([[(-1, 2)]], 3, TRENDS)
    with pytest.raises(DataError, match=r"trends: items\[0\] is 2, outside 0\.\.1"):
        tables_of([[(1, 2)]], 2, TRENDS)


def test_any_damaged_byte_of_an_array_is_refused_or_harmless(kind: str, saved: Path) -> None:
    """Tables that pass the checks work."""
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    reasons = []
    for place in rng.integers(8 + int.from_bytes(data[:8], "little"), len(data), 200):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        saved.unlink()  # a file that is still mapped must not change
        saved.write_bytes(damaged)
        try:
            use(KINDS[kind].load(saved))
        except DataError as error:
            reasons.append(str(error))
    assert 10 < len(reasons) < 150
    assert all("\n" not in reason for reason in reasons)
