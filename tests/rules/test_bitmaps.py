"""Conditions over columns: native bits against plain Python, and what is kept when columns change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.items.columns import VectorColumn
from mtaw_fast.rules import BitmapCache, RuleSet
from tests.support.rules.random_rules import holds, random_condition, random_rows, table_of, text_of


@pytest.mark.parametrize("n_items", [7, 64, 203, 4096, 4099])
def test_bits_equal_plain_python(n_items: int) -> None:
    rng = np.random.default_rng(n_items)
    rows: list[dict[str, Any]] = random_rows(rng, n_items)
    table = table_of([f"i{place}" for place in range(n_items)], rows)
    cache = BitmapCache()
    for _ in range(60 if n_items < 1000 else 8):
        condition = random_condition(rng, 3)
        rules = RuleSet.of({"filter": text_of(condition)})
        rules.check(table)
        assert rules.filter is not None
        current = None if rng.random() < 0.2 else int(rng.integers(n_items))
        bitmap = cache.filter(rules.filter, table, n_items + 5, current)
        values = [*rows, *[{}] * 5]  # five items behind the last row
        expected = [holds(condition, row, {} if current is None else rows[current]) for row in values]
        assert bitmap.mask.tolist() == expected, text_of(condition)
        assert np.array_equal(bitmap.packed, np.packbits(bitmap.mask, bitorder="little"))


def test_a_missing_vector() -> None:
    table = table_of(["a", "b"], [{"price": 1.0}, {}])
    values = np.array([[np.nan, np.nan], [1, 2]], dtype=np.float32)
    table = replace(table, columns={"face": VectorColumn(name="face", values=values)})
    rules = RuleSet.of({"filter": "missing(face)"}).filter
    assert rules is not None
    assert BitmapCache().filter(rules, table, 2).mask.tolist() == [True, False]
    for text in ("face in ()", "face not in ()", "face == 1"):
        with pytest.raises(UsageError, match="is a vector, which has no comparison"):
            RuleSet.of({"filter": text}).check(table)


def test_an_added_item_has_no_values() -> None:
    table = table_of(["a", "b"], [{"brand": "x"}, {"brand": "y"}])
    rules = RuleSet.of({"filter": "missing(current.brand) or brand == current.brand"}).filter
    assert rules is not None
    masks = [BitmapCache().filter(rules, table, 3, item).mask.tolist() for item in (1, 2)]
    assert masks == [[False, True, False], [True, True, True]]


def test_a_changed_column_drops_only_its_own() -> None:
    rng = np.random.default_rng(0)
    ids = [f"i{place}" for place in range(50)]
    table = table_of(ids, random_rows(rng, 50))
    cache = BitmapCache()
    trees = [RuleSet.of({"filter": text}).filter for text in ("price < 6", "new", "new and price < 6")]
    before = [cache.filter(tree, table, 50) for tree in trees if tree is not None]
    changed = replace(table, columns={**table.columns, "price": replace(table.columns["price"], version=9)})
    cache.drop_changed(changed)
    assert len(cache) == 1
    after = [cache.filter(tree, changed, 50) for tree in trees if tree is not None]
    assert [old is new for old, new in zip(before, after, strict=True)] == [False, True, False]


def test_the_cache_is_bounded() -> None:
    table = table_of([f"i{place}" for place in range(100)], random_rows(np.random.default_rng(0), 100))
    cache = BitmapCache(max_bytes=1000, max_filters=3)
    for limit in range(20):
        tree = RuleSet.of({"filter": f"price < {limit}"}).filter
        assert tree is not None
        cache.filter(tree, table, 100)
    assert len(cache) == 3
    assert cache.n_bytes == 3 * 200
