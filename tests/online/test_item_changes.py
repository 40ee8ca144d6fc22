"""The item table and availability while serving: in one process, with the log of learning, and with a state folder."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.items.changes import TableChange
from tests.support.online.recommenders import N, everything, put_table, save, shown
from tests.support.random_bundle import save_random
from tests.support.ranking.timed_model import END, timed_model

ROWS = {"id": [f"sku-{i}" for i in range(N)], "price": np.arange(N) * 1.5, "stock": np.ones(N, dtype=bool)}
Opened = Callable[..., Recommender]


@pytest.fixture(params=["plain", "learn", "state"])
def opened(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Opened:
    """Return a function that opens a recommender; all of them share what is kept, except the plain ones."""

    def open_one(bundle: Path = folder) -> Recommender:
        keeping: dict[str, Any] = {} if request.param == "plain" else {request.param: tmp_path / "kept"}
        return Recommender.load(bundle, **keeping)

    return open_one


kept = pytest.mark.parametrize("opened", ["learn", "state"], indirect=True)


def test_hidden_items_are_in_no_ranking_and_come_back_to_the_bit(opened: Opened) -> None:
    rec = opened()
    before = everything(rec)
    rng = np.random.default_rng(0)
    for count in (1, 7, N - 3):
        hidden = [f"sku-{i}" for i in rng.choice(N, count, replace=False)]
        rec.hide(hidden)
        assert shown(rec) == {f"sku-{i}" for i in range(N)} - set(hidden)
        assert rec.n_items == N - count
        assert hidden[0] in rec.ids
        assert rec.recommend([hidden[0]]).unknown == []
        rec.show([*hidden, "sku-0", "nobody"])
        assert everything(rec) == before


def test_columns_that_another_change_took_meanwhile_are_reported(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    rec = opened()
    change = rec._changes.store

    def overtaken(events: Any) -> None:
        monkeypatch.undo()
        change(events)
        rec.set_items({"id": ["sku-1"], "other": [1.5]})
        rec.set_items({"id": ["sku-1"], "stock": [1.5]})

    monkeypatch.setattr(rec._changes, "store", overtaken)
    report = rec.set_items(ROWS)
    assert [column.name for column in report.columns] == ["stock"]
    assert report.notes == (
        "column 'price' is gone: another change of the table came at the same time",
        "column 'stock' is a number: another change of the table came at the same time",
    )


def test_a_column_says_what_is_available(opened: Opened) -> None:
    rec = opened()
    before = everything(rec)
    report = rec.set_items(ROWS, availability="stock", public=["price"])
    assert (report.rows, report.known, report.unlisted) == (N, N, 0)
    assert everything(rec) == before
    rec.set_items(
        [{"id": "sku-1", "stock": False}, {"id": "sku-2", "price": 3}, {"id": "sku-3", "stock": None}], "patch"
    )
    assert shown(rec) == {f"sku-{i}" for i in range(N) if i != 1}
    rec.show(["sku-1"])  # it was not hidden by hand
    assert "sku-1" not in shown(rec)
    rec.hide(["sku-2"])
    rec.set_items([{"id": "sku-1", "stock": True}], "patch")
    assert shown(rec) == {f"sku-{i}" for i in range(N) if i != 2}
    rec.set_items(ROWS)  # hidden by hand is not a column
    assert "sku-2" not in shown(rec)
    rec.show(["sku-2"])
    assert everything(rec) == before
    assert rec.items is not None
    assert rec.items.public == ("price",)


def test_a_wrong_change_changes_nothing(opened: Opened) -> None:
    rec = opened()
    rec.set_items(ROWS)
    table, position = rec.items, rec.log_position
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (DataError, lambda: rec.set_items({"id": ["sku-1"], "price": ["cheap"]}, "patch")),
        (DataError, lambda: rec.set_items({"id": [7], "price": [1.0]})),
        (DataError, lambda: rec.set_items({"id": ["sku-1"]}, "patch", availability="price")),
        (UsageError, lambda: rec.set_items({"id": ["sku-1"]}, "patch", public=["prise"])),
        (UsageError, lambda: rec.set_items({"id": ["sku-1"]}, "merge")),  # type: ignore[arg-type]
        (UsageError, lambda: rec.set_items({"sku": ["sku-1"]})),
        (DataError, lambda: rec.hide([3])),
        (DataError, lambda: rec.show(["sku-1", ""])),
        (UsageError, lambda: rec.hide("sku-1")),
    ]
    for kind, change in refused:
        with pytest.raises(kind) as error:
            change()
        assert "\n" not in str(error.value)
        assert rec.items is table
        assert rec.log_position == position


def test_rows_and_hidden_ids_wait_for_their_item(opened: Opened) -> None:
    rec = opened()
    report = rec.set_items({"id": ["new-1", "new-2", "sku-1"], "price": [1.0, 2.0, 3.0]})
    assert (report.rows, report.known, report.unlisted) == (3, 1, N - 1)
    rec.hide(["new-2"])
    rec.add_items(["new-2", "new-1"], neighbors=[["sku-1"], ["sku-2"]])
    assert rec.items is not None
    places = rec.ids.lookup(["new-1", "new-2", "sku-1", "sku-2"])
    assert rec.items.values_at(["price"], places) == [{"price": 1.0}, {"price": 2.0}, {"price": 3.0}, {}]
    assert len(rec.items.waiting) == 0
    assert "new-1" in shown(rec)
    assert "new-2" not in shown(rec)
    rec.show(["new-2"])
    assert "new-2" in shown(rec)


def test_a_removed_item_comes_back_with_what_was_learned(opened: Opened) -> None:
    rec = opened()
    before = everything(rec)
    rec.remove_items(["sku-1", "sku-9"])
    assert {"sku-1", "sku-9"}.isdisjoint(shown(rec))
    rec.add_items(["sku-9", "sku-1"], neighbors=[["sku-30"], ["sku-31"]])
    assert everything(rec) == before


def test_a_compacted_bundle_alone_lacks_the_removed_items_too(folder: Path, tmp_path: Path) -> None:
    learning = Recommender.load(folder, learn=tmp_path / "log", index="native")
    learning.remove_items(["sku-3", "sku-8"])
    assert learning.learner is not None
    learning.learner.compact(wait=True)
    plain = Recommender.load(tmp_path / "log" / "bundle", index="native")
    assert shown(plain) == shown(learning) == {f"sku-{i}" for i in range(N)} - {"sku-3", "sku-8"}
    assert everything(pickle.loads(pickle.dumps(plain))) == everything(plain)
    plain.add_items(["sku-3"], neighbors=[["sku-4"]])
    learning.add_items(["sku-3"], neighbors=[["sku-4"]])
    assert shown(plain) == shown(learning) == {f"sku-{i}" for i in range(N)} - {"sku-8"}
    with pytest.raises(UsageError, match="changed by hand"):
        pickle.dumps(plain)


def test_random_items_hidden_and_shown_give_the_bits_of_before(opened: Opened, tmp_path: Path) -> None:
    model = timed_model()
    bundle = save(tmp_path / "b", model)
    rng = np.random.default_rng(8)
    ids = model.ids.external(np.arange(model.n_items, dtype=np.int32))
    hidden = [ids[place] for place in rng.choice(model.n_items, min(10_000, model.n_items // 2), replace=False)]
    sessions = [*([ids[place] for place in rng.integers(0, model.n_items, 4)] for _ in range(20)), ["nobody"], []]

    def rankings(rec: Recommender) -> list[Any]:
        lists = rec.recommend_batch(sessions, k=50, at=END)
        lists += [rec.recommend(session, k=50, at=END) for session in sessions[:-1]]
        lists += [rec.similar_items(ids[1], k=50, by=by) for by in ("vectors", "sessions")]
        return [(answer.items, answer.scores.tobytes()) for answer in lists]

    rec = opened(bundle)
    before = rankings(rec)
    rec.hide([*hidden, *(f"later-{place}" for place in range(10_000))])
    assert all(set(hidden).isdisjoint(items) for items, _ in rankings(rec))
    if (tmp_path / "kept").exists():  # a restart, and for learning a compaction and the switch to its bundle
        rec.close()
        rec = opened(bundle)
        if rec.learner is not None:
            rec.learner.compact(wait=True)
        assert all(set(hidden).isdisjoint(items) for items, _ in rankings(rec))
    rec.show(hidden)
    assert rankings(rec) == before


@kept
def test_a_change_that_comes_too_late_says_so_and_one_that_is_overtaken_is_made_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    rec, other = opened(), opened()
    rec.set_items({"id": ["sku-1"], "x": [1.0]})
    with pytest.raises(DataError, match="another process changed the item table first"):
        other._changes.set_items(lambda _: TableChange.of({"id": ["sku-1"], "x": ["text"]}, "patch"))
    assert rec.items is not None
    assert rec.items.kinds == {"x": "number"}
    with monkeypatch.context() as late:
        late.setattr(other, "catch_up", lambda: None)
        rec.set_items({"id": ["sku-1"], "z": [1.0]})
        rec.set_items({"id": ["sku-1"], "x": ["text"]})
        with pytest.raises(DataError, match=r"column 'x'.*is not a"):  # by the table that the first try met
            other.set_items({"id": ["sku-1"], "x": [2.0]}, "patch")
        assert other.items is not None
        assert other.items.kinds == {"x": "category"}
        rec.set_items({"id": ["sku-1"], "y": [True]}, "patch")
        other.set_items({"id": ["sku-1"], "y": [True]}, "patch")
        rec.set_items({"id": ["sku-1"], "x": ["text"], "y": [None]}, kinds={"y": "boolean"})
        other.set_items({"id": ["sku-1"], "w": [3.0]}, "patch")
    rec.hide([])
    assert rec.items.kinds == {"x": "category", "y": "boolean", "w": "number"}


def test_after_a_compaction_the_later_table_wins(folder: Path, tmp_path: Path) -> None:
    def price() -> Any:
        rec = Recommender.load(folder, learn=tmp_path / "log")
        try:
            assert rec.items is not None
            assert "sku-2" not in shown(rec)
            return rec.items.values_at(["price"], rec.ids.lookup(["sku-1", "fresh"]))
        finally:
            rec.close()

    rec = Recommender.load(folder, learn=tmp_path / "log")
    rec.observe("s", ["sku-1", "fresh"])
    rec.hide(["sku-2"])
    rec.set_items({"id": ["sku-1"], "price": [1.0]})
    rec.learner.compact(wait=True)
    rec.close()
    assert price() == [{"price": 1.0}, {}]
    frame = ItemFrame.of({"id": ["sku-1", "fresh"], "price": [7.0, 8.0]})
    table = ItemTable(N, made=time.time_ns() // 1_000_000 + 1).replaced(frame, np.array([1, -1]), N)
    put_table(folder, table)
    assert price() == [{"price": 7.0}, {"price": 8.0}]
    rec = Recommender.load(folder, learn=tmp_path / "log")
    rec.set_items([{"id": "fresh", "price": 9}], "patch")
    rec.learner.compact(wait=True)
    rec.close()
    assert price() == [{"price": 7.0}, {"price": 9.0}]


def test_an_item_that_comes_back_keeps_its_row(tmp_path: Path) -> None:
    rec = Recommender.load(save_random(tmp_path / "b").folder)  # without a memory it gets a new internal id
    rec.set_items({"id": ["sku-1", "x"], "price": [1.0, 2.0]})
    rec.add_items(["x"], neighbors=[["sku-1"]])
    rec.remove_items(["sku-1", "x"])
    rec.add_items(["x", "sku-1"], neighbors=[["sku-3"], ["sku-3"]])
    assert rec.items is not None
    assert rec.items.values_at(["price"], rec.ids.lookup(["sku-1", "x"])) == [{"price": 1.0}, {"price": 2.0}]
