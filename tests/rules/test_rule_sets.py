"""Rules as they are written: the trees they become, and one line with the place for each that is wrong."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native import rules as native
from mtaw_fast.rules import BitmapCache, BoundRules, RuleSet, rule_set_of, rule_set_of_text
from mtaw_fast.rules.bitmaps import native_columns
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


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('not 3 <= price or current.brand != "x" and new', 'not (3 <= price) or (current.brand != "x" and new)'),
        ("1 < price < 5", "1 < price and price < 5"),
        ("(price) < (5)", "price < 5"),
        ("((new)) and (not (new))", "new and not new"),
        ("5. < price", "+5e0 < price"),
        (".25e2 <= price", "2_5 <= price"),
        ("price in [3, 80.0,]", "price in (3, 80)"),
        ("price in {3}", "price in (3)"),
        (r"brand == 'o\x77\u006e' ", 'brand == "o" "w" """n"""'),
        (r"brand == '\157wn'", 'item["brand"] == "own"'),
        ("new == True", "True in (new)"),
        ("-3 < price", "-3 < item['price']"),
        ("current.new", "current['new'] == True"),
        ("missing(price)or new", "missing( item['price'] ) or new"),
        ("'é' in current.tags or new", "new\n or\t('é' in current [ 'tags' ])"),
    ],
)
def test_two_ways_to_write_a_condition(text: str, same: str, table: ItemTable) -> None:
    bits = [RuleSet.of({"filter": one}).filter for one in (text, same)]
    columns = native_columns(table)
    for item in (None, 0, 1, 2):
        first, second = (condition.bits(columns, item, 3).tolist() for condition in bits if condition is not None)
        assert first == second


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
        ({"filter": "(lambda: 1)()"}, "invalid syntax at character 8"),
        ({"filter": "price = 3"}, "invalid syntax at character 7; write a condition such as"),
        ({"filter": "price < 0x10"}, "invalid syntax at character 10"),
        ({"filter": "price not 3"}, "invalid syntax at character 11"),
        ({"filter": "new # and more"}, "invalid syntax at character 5"),
        ({"filter": "(price < 3"}, "invalid syntax at character 11"),
        ({"filter": 'brand == "own'}, "a text has no end (character 10)"),
        ({"filter": r"brand == '\d'"}, "no such escape in a text; write"),
        ({"filter": "missing(price, new)"}, "missing takes one column"),
        ({"filter": "missing(3)"}, "missing takes a column, not a value"),
        ({"filter": "item[3] == 1"}, "write the column's name as a text"),
        ({"filter": "None == brand"}, "None is neither a column nor a value"),
        ({"filter": "(price < 3) < 4"}, "invalid syntax at character 13"),
        ({"filter": "price + 1 < 3"}, "price + 1 is neither"),
        ({"filter": "brand.x == 3"}, "neither"),
        ({"filter": "a\0b"}, "invalid syntax at character 2"),
        ({"filter": "price < 3 \ud800"}, "not JSON"),
        ({"filter": r"brand == '\ud800'"}, "half a character"),
        ({"filter": r"current['\ud800'] == 1"}, "half a character"),
        ({"filter": r"item['a\0'] == 1"}, "the character 0"),
        ({"filter": "x" * 100_000}, "the most is 4096"),
        ({"filter": "(" * 10_000 + "new" + ")" * 10_000}, "the most is 4096"),
        ({"filter": "(" * 2000 + "new" + ")" * 2000}, "nested too deeply"),
        ({"filter": "not " * 500 + "new"}, "nested too deeply"),
        ({"filter": "-" * 4000 + "1"}, "is neither a column nor a value"),
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
        ({"diversify": {"per": "brnd", "most": 1, "of": 2}}, "diversify: the items have no column 'brnd'"),
        ({"diversify": {"per": "price", "most": 1, "of": 2}}, "column 'price' is of kind number; a limit counts"),
        ({"diversify": {"per": "brand", "most": 1}}, 'diversify: it is {"per": COLUMN, "most": NUMBER, "of": NUMBER}'),
        ({"diversify": {"per": "brand", "most": 1, "of": 1}}, "of must be a whole number from 2 to 100, not 1"),
        ({"diversify": {"per": "brand", "most": 5, "of": 5}}, "most must be a whole number from 1 to 4, not 5"),
        ({"diversify": [{"per": "brand", "most": 1, "of": 2}] * 33}, "there are 33 clauses, the most is 32"),
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


def test_equal_rules_and_equal_errors_are_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[str]()
    read = native.RuleSet
    monkeypatch.setattr(native, "RuleSet", lambda text, where: reads.append(text) or read(text, where))
    for text, error in (("price < 80.25", None), ("price < < 80.25", "invalid syntax"), ("9.25", "a value alone")):
        for rules in ({"filter": text} for _ in range(3)):
            with nullcontext() if error is None else pytest.raises(UsageError, match=error):
                rule_set_of(rules)
            with nullcontext() if error is None else pytest.raises(UsageError, match=error):
                rule_set_of_text(json.dumps(rules))
        assert reads.count(json.dumps({"filter": text})) == 1


def test_nested_json_is_one_line() -> None:
    nested: Any = "new"
    for _ in range(10_000):
        nested = [nested]
    assert "not JSON" in refusal({"filter": nested})
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert refusal({"limit": {"per": "brand", "most": deep}}).startswith("rules: not JSON: its nesting is too deep")


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
    applied = BoundRules(None, ids.table, 3, None, BitmapCache()).bound(rules, None)
    assert applied.native.shown_pins(np.empty(0, np.int32), None, None, False) == [1, 0, 2]
