"""The measurement of new items: what is held out leaves the training log, and neighbors come from the test alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import polars as pl

from bench.quality import new_items
from mtaw_fast import Recommender


def test_held_out_items_leave_the_training_log_and_are_of_its_last_day() -> None:
    log = new_items.shop_log(items=120, sessions=800)
    assert len(log.held) == 6
    assert not log.held & set(log.train["item"])
    assert log.held & set(log.test["item"])
    assert log.train["time"].max() < log.test["time"].min()  # type: ignore[operator]
    rows = log.table.filter(pl.col("id").is_in(list(log.held)))
    assert rows["created"].dt.epoch("ms").min() > log.test["time"].min() - 2 * new_items.DAY  # type: ignore[operator]
    known = SimpleNamespace(ids=frozenset(log.train["item"]))
    neighbors = new_items.neighbors_in(log, cast(Recommender, known))
    together: dict[Any, set[Any]] = {}
    for (items,) in log.test.group_by("session").agg("item").select("item").iter_rows():
        for item in log.held.intersection(items):
            together.setdefault(item, set()).update(set(items) & known.ids)
    assert {item: set(row) <= together[item] and len(row) <= 5 for item, row in neighbors.items()} == {
        item: True for item, others in together.items() if others
    }
