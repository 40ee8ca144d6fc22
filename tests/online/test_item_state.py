"""The state folder: it keeps changes of the item table without learning, and is shortened."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import pickle
import resource
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import LearnError, UsageError
from mtaw_fast.items import ItemFrame, ItemTable, TableChange
from mtaw_fast.items.placements import Revision
from mtaw_fast.online import item_state
from mtaw_fast.online.log.events import HideItems, SetPlacement, ShowItems, now_ms
from mtaw_fast.online.log.segment_folder import SegmentFolder
from mtaw_fast.online.log.table_parts import table_parts
from tests.support.forks import child
from tests.support.online.file_logs import raises
from tests.support.online.recommenders import N, everything, put_table, shown
from tests.support.service.running import eventually


def test_the_state_folder_is_shortened(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_state, "SEGMENT_BYTES", 700)
    real = item_state.FileLog
    monkeypatch.setattr(item_state, "FileLog", lambda folder, fsync: real(folder, fsync=fsync, segment_bytes=500))
    rec, other = (Recommender.load(folder, state=tmp_path / "state") for _ in range(2))
    for place in range(40):
        rec.set_items([{"id": f"sku-{place % 7}", "price": place}], "patch")
        rec.hide([f"sku-{20 + place % 5}"])
        rec.show([f"sku-{20 + place % 3}"])
    last = Recommender.load(folder, state=tmp_path / "state")
    eventually(lambda: other.log_position == rec.log_position == last.log_position)
    values = rec.items.values_at(["price"], np.arange(8))
    assert [row.get("price") for row in values] == [35.0, 36.0, 37.0, 38.0, 39.0, 33.0, 34.0, None]
    for reader in (other, last):
        assert reader.items is not None
        assert reader.items.values_at(["price"], np.arange(8)) == values
        assert reader.items.hidden == frozenset({"sku-23", "sku-24"})
        assert everything(reader) == everything(rec)
    assert len(list((tmp_path / "state").glob("events-*.log"))) < 20
    frame = ItemFrame.of({"id": ["sku-1"], "price": [0.5]})
    put_table(folder, ItemTable(N, made=last.items.changed + 1).replaced(frame, np.array([1]), N))
    newer = Recommender.load(folder, state=tmp_path / "state")
    assert newer.items is not None
    assert newer.items.values_at(["price"], np.arange(3)) == [{}, {"price": 0.5}, {}]


def test_a_shortened_state_folder_keeps_what_earlier_tables_did_to_the_columns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column takes another kind by a table without it, and stays the availability without being named again."""
    put_table(folder, ItemTable(N).replaced(ItemFrame.of({"id": ["sku-1"], "size": [2.5]}), np.array([1]), N))
    rec = Recommender.load(folder, state=tmp_path / "state")
    rec.set_items({"id": ["sku-1"], "on": [True]}, "patch", availability="on")
    rec.set_items({"id": ["sku-1"], "on": [True]}, public=["on"])
    rec.set_items({"id": ["sku-1"], "size": ["small"], "on": [False]}, kinds={"size": "category"})
    assert isinstance(rec._changes.keeper, item_state.ItemState)
    rec._changes.keeper._shorten()
    last = Recommender.load(folder, state=tmp_path / "state")
    assert last.items is not None
    assert last.items.values_at(["size", "on"], np.array([1])) == [{"size": "small", "on": False}]
    assert (last.items.public, last.items.availability) == (("on",), "on")
    assert "sku-1" not in last.recommend(["sku-2"], k=N).items


def test_a_learning_folder_is_no_state_folder(folder: Path, tmp_path: Path) -> None:
    """Its changes are counted with the clicks: a reader of the changes alone would say that nobody clicked."""
    Recommender.load(folder, learn=tmp_path / "log").close()
    with pytest.raises(LearnError, match=r"is the folder of services that learn; name it with learn \(--learn\)"):
        Recommender.load(folder, state=tmp_path / "log")


def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each segment of a state folder hold one change."""
    real = item_state.FileLog
    monkeypatch.setattr(item_state, "FileLog", lambda folder, fsync: real(folder, fsync=fsync, segment_bytes=1))


def opened(folder: Path, table: ItemTable | None = None) -> item_state.ItemState:
    return item_state.ItemState(folder, table, lambda live: None)


def patch(state: item_state.ItemState, item: str, time: int | None = None, **values: Any) -> None:
    """Append a patch that was checked against no table."""
    change = TableChange.of([{"id": item, **values}], "patch")
    state.append(table_parts(change, now_ms() if time is None else time))


def table_of(state: item_state.ItemState) -> ItemTable:
    table = state.follower.state.items.table(lambda ids: np.array([int(item[4:]) for item in ids], np.int32), N)
    assert table is not None
    return table


def prices(state: item_state.ItemState) -> list[Any]:
    return [row.get("price") for row in table_of(state).values_at(["price"], np.arange(4))]


def test_a_shortened_state_folder_leaves_what_is_newer_in_the_bundle(tmp_path: Path) -> None:
    first = opened(tmp_path)
    patch(first, "sku-1", 1_000, price=5.0)
    first.stop()
    frame = ItemFrame.of({"id": ["sku-1"], "price": [9.0]})
    trained = ItemTable(N, made=2_000).replaced(frame, np.array([1]), N)
    state = opened(tmp_path, trained)
    patch(state, "sku-2", 3_000, price=2.0)
    state._shorten()
    state.catch_up()
    assert prices(state) == [None, 9.0, 2.0, None]


@pytest.mark.parametrize("value", ["cheap", True], ids=["category", "bool"])
def test_a_change_that_did_not_fit_does_not_keep_the_folder_from_being_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    small_segments(monkeypatch)
    state = opened(tmp_path)
    patch(state, "sku-1", price=1.5)
    patch(state, "sku-3", price=value)  # as by a process that did not know the first one
    assert len(state.table_parts.refused) == 1
    state._shorten()
    patch(state, "sku-2", price=2.5)
    state.stop()
    last = opened(tmp_path)
    assert prices(last) == [None, 1.5, 2.5, None]


def test_a_reader_that_is_late_when_the_folder_is_shortened_misses_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_segments(monkeypatch)
    trained = replace(ItemTable(N), hidden=frozenset({"sku-7"}))
    state, late = opened(tmp_path, trained), opened(tmp_path, trained)
    first = {"sets": [{"rules": {"limit": []}}]}
    state.append([HideItems(("sku-1", "sku-2"), now_ms())])
    state.append([SetPlacement("old", {"sets": []}, 1), SetPlacement("new", first, 2)])
    late.catch_up()
    with late.follower.paused():
        state.append([ShowItems(("sku-1", "sku-7"), now_ms())])
        state.append([SetPlacement("old", None, 3)])
        state.append([SetPlacement("new", {"sets": []}, 4)])
        state._shorten()
    late.catch_up()
    last = opened(tmp_path, trained)
    for reader in (state, late, last):
        table = table_of(reader)
        assert table.hidden == frozenset({"sku-2"})
        assert table.placements == {"new": (Revision(1, 2, first), Revision(2, 4, {"sets": []}))}


@pytest.mark.parametrize("times", [1, 2])
def test_a_shortening_that_stops_in_the_middle_takes_no_change_back(tmp_path: Path, times: int) -> None:
    """Half of what it writes is a table without the patches that came after it."""
    state = opened(tmp_path)
    table = TableChange.of([{"id": "sku-1", "price": 1.0}, {"id": "sku-2", "price": 2.0}], "replace")
    state.append(table_parts(table, now_ms()))
    patch(state, "sku-1", price=5.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (times * state._log.n_bytes - 10, hard))  # of a file: as a full disk
    try:
        with contextlib.suppress(LearnError):
            state._shorten()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    state.stop()
    last = opened(tmp_path)
    assert prices(last) == [None, 5.0, 2.0, None]
    last.stop()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_change_is_kept_though_the_folder_cannot_be_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = opened(tmp_path)
    monkeypatch.setattr(item_state, "SEGMENT_BYTES", 0)
    monkeypatch.setattr(item_state.FileLog, "add_segment", raises(LearnError("no space left")))
    patch(state, "sku-1", price=5.0)
    assert prices(state)[1] == 5.0
    assert f"{tmp_path} is not shortened: no space left" in caplog.text


def test_a_change_is_no_error_if_another_process_wants_to_shorten_the_folder_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_segments(monkeypatch)
    state, other = opened(tmp_path), opened(tmp_path)
    patch(state, "sku-1", price=1.5)
    assert (tmp_path / ".items.lock").stat().st_mode & 0o777 == 0o600
    real = SegmentFolder.size

    def shortened_before(segments: SegmentFolder, number: int) -> int:
        if segments is state._log._segments:
            with (tmp_path / ".items.lock").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # the other one waits
                    return real(segments, number)
            monkeypatch.undo()
            other._shorten()
        return real(segments, number)

    thread = threading.current_thread()
    monkeypatch.setattr(
        SegmentFolder,
        "size",
        lambda *arguments: (shortened_before if threading.current_thread() is thread else real)(*arguments),
    )
    patch(state, "sku-2", price=2.5)
    monkeypatch.undo()
    for reader in (state, other):
        reader.catch_up()
        assert prices(reader) == [None, 1.5, 2.5, None]


def test_a_child_of_a_fork_changes_items_though_a_thread_of_its_parent_did_so_then(tmp_path: Path) -> None:
    state = opened(tmp_path)
    with state._lock(fcntl.LOCK_SH):
        assert child(lambda: state.append([HideItems(("sku-1",), now_ms())])) == 0
    state.catch_up()
    assert table_of(state).hidden == frozenset({"sku-1"})


def test_copies(folder: Path, tmp_path: Path) -> None:
    rec = Recommender.load(folder, state=tmp_path / "state")
    rec.hide(["sku-1"])
    for copied in (pickle.loads(pickle.dumps(rec)), copy.deepcopy(rec)):
        assert shown(copied) == shown(rec)
        copied.close()
    rec.close()
    plain = Recommender.load(folder)
    plain.hide(["sku-1"])
    with pytest.raises(UsageError, match="changed by hand is not pickled"):
        pickle.dumps(plain)
    with pytest.raises(UsageError, match="leave state out"):
        Recommender.load(folder, learn=tmp_path / "log", state=tmp_path / "state")
