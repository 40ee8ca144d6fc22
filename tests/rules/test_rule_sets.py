"""Rules as they are written: the trees they become, and one line with the place for each that is wrong."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemTable, TableChange
from mtaw_fast.rules import RuleSet, rule_set, rule_set_of, rule_set_of_text
from mtaw_fast.rules.applied import _internal_pins
from mtaw_fast.rules.expression import _Reader, parsed
from tests.support.rules.random_rules import table_of

IDS = ["a", "b", "c"]
ROWS: list[dict[str, Any]] = [
    {"price": 3.0, "brand": "own", "tags": ["new", "red"], "new": True, "title": "shoe", "since": 86_400_000},
    {"price": 80.0, "brand": "x", "new": False},
    {},
]


@pytest.fixture(scope="module")
def table() -> ItemTable:
    return table_of(IDS, ROWS, public=["brand"])


def refusal(rules: Any, table: ItemTable | None = None, public_only: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        RuleSet.of(rules, public_only=public_only).check(table)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("other", ["a condition", "a change"])
def test_conditions_and_changes_are_read_one_at_a_time(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """In CPython 3.11, Python's parser may fail if two threads are in it; numpy reads headers with it."""
    packed = TableChange.of({"id": ["a"], "price": [1.5]}).packed()
    together, met = threading.Barrier(2), list[bool]()

    def meeting(read: Callable[..., Any]) -> Callable[..., Any]:
        def met_first(*arguments: Any, **named: Any) -> Any:
            with suppress(threading.BrokenBarrierError):
                together.wait(0.5)
                met.append(True)
            return read(*arguments, **named)

        return met_first

    monkeypatch.setattr(ast, "parse", meeting(ast.parse))
    monkeypatch.setattr(np, "load", meeting(np.load))
    read_condition = partial(parsed, "price < 80", "filter")
    threads = [
        threading.Thread(target=read_condition),
        threading.Thread(target=read_condition if other == "a condition" else partial(TableChange.unpacked, packed)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not met


def test_a_condition_becomes_the_documented_tree() -> None:
    text = ' brand in ("own", "x") and not 3 <= price or current.brand != "x"'
    values = [{"value": "own", "at": 12}, {"value": "x", "at": 19}]
    member = {"in": {"column": "brand", "at": 2}, "values": values, "at": 2}
    price = {"compare": "<=", "left": {"value": 3, "at": 32}, "right": {"column": "price", "at": 37}, "at": 32}
    other = {"compare": "!=", "left": {"current": "brand", "at": 46}, "right": {"value": "x", "at": 63}, "at": 46}
    assert parsed(text, "filter") == ({"any": [{"all": [member, {"not": price}]}, other]}, 3)


def test_the_deepest_condition_of_a_text(table: ItemTable) -> None:
    RuleSet.of({"filter": "not " * 32 + "1 < price < 3"}).check(table)
    assert "nested too deeply" in refusal({"filter": "not " * 33 + "1 < price < 3"})


def test_names_that_are_no_python_names() -> None:
    rules = RuleSet.of({"filter": 'item["list price"] < 3 and missing(current["class"])'})
    assert rules.columns == {"list price", "class"}


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        ({"filter": "pricee < 80"}, "rules: filter: the items have no column 'pricee' (character 1); there is: price"),
        ({"filter": ["new", "ä == 1 or pric < 3"]}, "filter 2: the items have no column 'ä' (character 1)"),
        ({"filter": 'new\n and pric < "a"'}, "no column 'pric' (character 10)"),
        ({"filter": 'price < "a"'}, "column 'price' is a number: compare it with a number, not 'a' (character 9)"),
        ({"filter": "price == True"}, "compare it with a number"),
        ({"filter": 'brand < "a"'}, "has no order"),
        ({"filter": "brand == 3"}, "compare it with a text"),
        ({"filter": "since > 'yesterday'"}, "ISO date"),
        ({"filter": "since > 1_700_000_000"}, "compare it with Unix milliseconds (seconds times 1000), not 1700000000"),
        ({"filter": "price"}, "column 'price' is a number; compare it with a value (character 1)"),
        ({"filter": "title == brand"}, "do not compare"),
        ({"filter": "price == brand"}, "do not compare"),
        ({"filter": "nan < price"}, "no column 'nan'"),
        ({"filter": "price < 1e999"}, "a number is too large (character 9)"),
        ({"filter": "price < " + "9" * 30}, "a number is too large"),
        ({"filter": "1 < 2"}, "has no column"),
        ({"filter": "3"}, "a value alone is no condition"),
        ({"filter": "price <"}, "filter: invalid syntax at character"),
        ({"filter": ""}, "invalid syntax"),
        ({"filter": "price is 3"}, "write == or != instead of 'is'"),
        ({"filter": 'brand in "own"'}, "write a list after 'in'"),
        ({"filter": "brand in (brand, maker)"}, "takes values only"),
        ({"filter": "price in (" + "1," * 40 + ")"}, "at most 16 values"),
        ({"filter": '__import__("os").system("true")'}, "is neither a column nor a value (character 1)"),
        ({"filter": "(lambda: 1)()"}, "neither a column nor a value"),
        ({"filter": "price + 1 < 3"}, "price + 1 is neither"),
        ({"filter": "brand.x == 3"}, "neither"),
        ({"filter": "a\0b"}, "null bytes"),
        ({"filter": "price < 3 \ud800"}, "not JSON"),
        ({"filter": r"brand == '\ud800'"}, "half a character"),
        ({"filter": r"current['\ud800'] == 1"}, "half a character"),
        ({"filter": r"item['a\0'] == 1"}, "the character 0"),
        ({"filter": "x" * 100_000}, "the most is 4096"),
        ({"filter": "(" * 10_000 + "new" + ")" * 10_000}, "the most is 4096"),
        ({"filter": "(" * 2000 + "new" + ")" * 2000}, "nested too deeply"),
        ({"filter": "not " * 500 + "new"}, "nested too deeply"),
        ({"filter": "-" * 4000 + "1"}, "nested too deeply"),
        ({"filter": "new and " * 40 + "new"}, "filter: there are more than 32 clauses; write fewer"),
        ({"filter": "<".join(["price"] * 34)}, "filter: there are more than 32 clauses"),
        ({"filter": ["new"] * 20, "boost": [{"when": "new", "by": 1}] * 20}, "boost 13: when: there are more than 32"),
        ({"filter": ["new"] * 20, "limit": [{"per": "brand", "most": 1}] * 20}, "there are 40 clauses, the most is 32"),
        ({"filter": 3}, "a condition is a text"),
        ({"boost": {"when": "new", "by": float("nan")}}, "by must be a number from"),
        ({"boost": {"when": "new", "by": True}}, "by must be a number"),
        ({"boost": {"when": "new", "by": 1e9}}, "by must be a number"),
        (
            {"boost": [{"when": "new", "by": 1}, {"when": "new"}]},
            'boost 2: a boost is {"when": CONDITION, "by": NUMBER}, not {"when": "new"}',
        ),
        ({"boost": {"when": "nothing", "by": 1}}, "boost: when: the items have no column 'nothing'"),
        ({"limit": {"per": "price", "most": 2}}, "column 'price' is of kind number; a limit counts"),
        ({"limit": {"per": "brand", "most": 0}}, "most must be a whole number"),
        ({"limit": {"per": "brnd", "most": 1}}, "limit: the items have no column 'brnd'"),
        ({"pin": {"a": 0}}, "the position of 'a' must be"),
        ({"pin": {"a": 3, "b": 3}}, "'a' and 'b' have the same position 3"),
        ({"pin": ["a"]}, "pins are an object of items and positions"),
        ({"sort": 1}, "there is no 'sort'"),
        (["new"], "rules are an object"),
        ({"filter": {1, 2}}, "not JSON"),
    ],
)
def test_a_wrong_rule_is_one_line_with_its_place(rules: Any, part: str, table: ItemTable) -> None:
    assert part in refusal(rules, table)


def test_the_most_clauses() -> None:
    RuleSet.of({"filter": "new and " * 20 + "new", "boost": [{"when": "missing(price)", "by": 1}] * 11})
    RuleSet.of({"filter": "<".join(["price"] * 33)})


def test_nothing_is_read_after_the_last_clause(monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[str]()
    side = _Reader._side
    monkeypatch.setattr(_Reader, "_side", lambda reader, node: read.append(reader._where) or side(reader, node))
    refusal({"filter": "<".join(["price"] * 680)})
    assert len(read) == 2 * 32


def test_equal_rules_and_equal_errors_are_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[str]()
    monkeypatch.setattr(rule_set, "parsed", lambda text, *rest: reads.append(text) or parsed(text, *rest))
    for text, error in (("price < 80.25", None), ("price < < 80.25", "invalid syntax"), ("9.25", "a value alone")):
        for rules in ({"filter": text} for _ in range(3)):
            with nullcontext() if error is None else pytest.raises(UsageError, match=error):
                rule_set_of(rules)
            with nullcontext() if error is None else pytest.raises(UsageError, match=error):
                rule_set_of_text(json.dumps(rules))
        assert reads.count(text) == 1


def test_nested_json_is_one_line() -> None:
    nested: Any = "new"
    for _ in range(10_000):
        nested = [nested]
    assert "not JSON" in refusal({"filter": nested})
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert refusal({"limit": {"per": "brand", "most": deep}}).startswith("rules: its nesting is too deep")


def test_private_columns_are_unknown_to_public_requests(table: ItemTable) -> None:
    message = refusal({"filter": "price < 80"}, table, public_only=True)
    assert "no public column 'price' (character 1); there is: brand" in message
    assert "title" not in message
    for rules in ({"boost": {"when": "new", "by": 1}}, {"limit": {"per": "new", "most": 1}}):
        assert "no public column 'new'" in refusal(rules, table, public_only=True)
    assert "no public column 'price'" in refusal({"filter": "current.price < 80"}, table, public_only=True)
    RuleSet.of({"filter": 'brand == "x"'}, public_only=True).check(table)


def test_rules_without_an_item_table() -> None:
    assert "the items have no columns, so there is no 'price'" in refusal({"filter": "price < 80"})
    RuleSet.of({"pin": {"a": 1}}).check(None)


def test_pins_of_whole_numbers_of_every_length() -> None:
    ids = ItemIds.from_list([5, 1234567890123456789, -(2**63)])
    rules = RuleSet.of({"pin": {"1234567890123456789": 1, "05": 2, str(-(2**63)): 3, "9" * 19: 4, "9" * 20: 5}})
    assert _internal_pins(rules, ids) == [(1, 1), (2, 0), (3, 2)]
