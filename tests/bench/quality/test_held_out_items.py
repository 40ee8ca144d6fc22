"""The ranks of held-out items: against a brute force on logs full of ties, and by properties."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="bench.quality needs the extra 'train'")
pytest.importorskip("rich", reason="bench.quality needs the extra 'train'")

from bench.quality.held_out_items import _attributes, _ranks
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.items.columns import NO_TIME
from mtaw_fast.items.unclicked_order import NO_CATEGORY, OWN, UnclickedOrder

HOUR = 3_600_000
NOON = 1_500_000_000_000
SPAN = (NOON + 24 * HOUR, NOON + 72 * HOUR)
BY_CATEGORY = UnclickedOrder(("category",), "time", (2.0, 1.0, 0.0))  # says nothing of age: many equal scores
BY_AGE = UnclickedOrder(("category",), "time", (0.5, 0.25, -1.0))
ORDERS = ("order", "newest", "category popularity", "newest of the category")
Log = dict[str, np.ndarray]


@pytest.mark.parametrize("waiting", [{}, {"id": ["c"], "time": [3]}])
def test_the_attributes_of_a_table_of_which_few_or_no_rows_wait(waiting: dict[str, list[Any]]) -> None:
    frame = ItemFrame.of({"id": ["a", "b"], "category": ["x", "y"], "time": [1, 2]}, kinds={"time": "time"})
    table = ItemTable(2).replaced(frame, np.arange(2), 2)
    if waiting:
        table = table.patched(ItemFrame.of(waiting, kinds={"time": "time"}), np.array([-1]))
    model: Any = SimpleNamespace(items=table, ids=ItemIds.from_list(["a", "b"]))
    category, created = _attributes(model, ["c", "b", "a"])
    assert category.tolist() == [NO_CATEGORY, 0, 1]
    assert created.tolist() == [3 if waiting else NO_TIME, 2, 1]


def drawn_log(seed: int, n_items: int = 24, n_clicks: int = 300) -> Log:
    """Draw clicks in order of time on items that share few categories and few moments."""
    rng = np.random.default_rng(seed)
    created = NOON + HOUR * rng.integers(-48, 72, n_items) // 24 * 24
    created[rng.random(n_items) < 0.1] = NO_TIME
    return {
        "sessions": rng.integers(0, 30, n_clicks),
        "items": rng.integers(0, n_items, n_clicks),
        "times": NOON + np.sort(rng.integers(0, 96, n_clicks)) * HOUR,
        "category": np.where(rng.random(n_items) < 0.1, NO_CATEGORY, rng.integers(0, 3, n_items)),
        "created": created,
        "held": rng.random(n_items) < 0.5,
    }


def brute_force(log: Log, order: UnclickedOrder) -> dict[str, list[int]]:
    """Sort the competitors of each target, one after the other, with the target last among its equals."""
    category, created = log["category"].tolist(), log["created"].tolist()
    seen: dict[int, list[int]] = {}
    past: list[tuple[int, int]] = []  # time and category of the clicks on other items
    ranks: dict[str, list[int]] = {name: [] for name in ORDERS}
    for session, item, now in zip(log["sessions"].tolist(), log["items"].tolist(), log["times"].tolist(), strict=True):
        clicked = seen.setdefault(session, [])
        if not log["held"][item]:
            clicked.append(item)
            past.append((now, category[item]))
            continue
        rivals = [one for one in range(len(created)) if log["held"][one] and now - 72 * HOUR < created[one] <= now]
        if not (SPAN[0] <= now < SPAN[1] and clicked and item in rivals):
            continue
        own = [category[one] for one in clicked[::-1][:OWN]]
        fitted = order.scores([log["category"][rivals]], log["created"][rivals], [own], now)
        popular = {one: sum(2.0 ** ((time - SPAN[0]) / HOUR) for time, code in past if code == category[one] >= 0)
                   for one in rivals}  # fmt: skip
        keys = {
            "order": dict(zip(rivals, fitted.tolist(), strict=True)),
            "newest": dict.fromkeys(rivals, 0.0),
            "category popularity": popular,
            "newest of the category": {one: float(category[one] == own[0]) for one in rivals},
        }
        for name, key in keys.items():
            best_first = sorted(rivals, key=lambda one: (-key[one], -created[one], one == item))
            ranks[name].append(1 + best_first.index(item))
    return ranks


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("order", [BY_CATEGORY, BY_AGE], ids=["by category", "by age"])
def test_ranks_are_those_of_sorting_with_the_target_last_among_equals(seed: int, order: UnclickedOrder) -> None:
    log = drawn_log(seed)
    ranks = _ranks(**log, order=order, span=SPAN)
    assert ranks == brute_force(log, order)
    assert len(ranks["order"]) > 10


def test_clicks_after_the_span_change_nothing() -> None:
    log = drawn_log(0)
    longer = {**log, "sessions": np.append(log["sessions"], 99), "items": np.append(log["items"], 0)}
    longer |= {"times": np.append(log["times"], NOON + 365 * 24 * HOUR), "held": log["held"] & (np.arange(24) > 0)}
    shorter = {**log, "held": longer["held"]}
    assert _ranks(**longer, order=BY_AGE, span=SPAN) == _ranks(**shorter, order=BY_AGE, span=SPAN)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_of_items_decide_no_rank(seed: int) -> None:
    log = drawn_log(seed)
    number = np.random.default_rng(seed).permutation(len(log["created"]))  # new number of each item
    renumbered = {**log, "items": number[log["items"]]}
    for name in ("category", "created", "held"):
        renumbered[name] = log[name][np.argsort(number)]
    assert _ranks(**renumbered, order=BY_CATEGORY, span=SPAN) == _ranks(**log, order=BY_CATEGORY, span=SPAN)


@pytest.mark.parametrize("seed", range(4))
def test_a_twin_of_each_item_doubles_every_rank(seed: int) -> None:
    log = drawn_log(seed)
    twins = {**log, **{name: np.tile(log[name], 2) for name in ("category", "created", "held")}}
    ranks = _ranks(**log, order=BY_CATEGORY, span=SPAN)
    expected = {name: [2 * rank for rank in order_ranks] for name, order_ranks in ranks.items()}
    assert _ranks(**twins, order=BY_CATEGORY, span=SPAN) == expected


def test_items_without_a_difference_are_all_ahead_of_the_target() -> None:
    n_items = 5
    log = {
        "sessions": np.zeros(2, dtype=np.int64),
        "items": np.array([0, 3]),
        "times": np.array([SPAN[0], SPAN[0] + HOUR]),
        "category": np.zeros(n_items, dtype=np.int64),
        "created": np.full(n_items, SPAN[0]),
        "held": np.arange(n_items) > 0,
    }
    assert _ranks(**log, order=BY_AGE, span=SPAN) == {name: [n_items - 1] for name in ORDERS}
    with pytest.raises(UsageError, match="no click of the log is on a held-out item"):
        _ranks(**{**log, "created": np.full(n_items, SPAN[0] - 72 * HOUR)}, order=BY_AGE, span=SPAN)


def test_a_span_of_months() -> None:
    log = {
        "sessions": np.zeros(3, dtype=np.int64),
        "items": np.array([0, 0, 1]),
        "times": SPAN[0] + HOUR * np.array([0, 1100, 1101]),
        "category": np.zeros(2, dtype=np.int64),
        "created": np.full(2, SPAN[0] + 1100 * HOUR),
        "held": np.arange(2) > 0,
    }
    assert _ranks(**log, order=BY_AGE, span=(SPAN[0], SPAN[0] + 2000 * HOUR)) == {name: [1] for name in ORDERS}
