"""Slices of samples: which value each sample has, by hand, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.item_facts import Attribute, ItemFacts, attributes_of
from mtaw_fast.evaluation.slices import slicings_of
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import BooleanColumn, CategoriesColumn, CategoryColumn, NumberColumn
from mtaw_fast.items.labels import Labels

HOUR = 3_600_000
TRAIN = Sessions(
    np.array([0, 0, 0, 1, 1, 2], np.int32), np.array([0, 3, 6]), np.array([0, HOUR, 2 * HOUR, 0, 5, 9 * HOUR])
)


def samples() -> Samples:
    """Four samples: prefixes of 1, 2, 3 and 25 clicks, targets 0, 1, 2, 3 at hours 0, 1, 33, 33."""
    lists = [[1], [2, 1], [1, 2, 2], [0] * 25]
    items = np.array([item for clicks in lists for item in clicks], np.int32)
    offsets = np.array([0, 1, 3, 6, 31])
    context = np.zeros((31, 1), np.uint16)
    context[[0, 2, 5, 30]] = [[2], [1], [0], [2]]  # the last click of each prefix
    prefixes = Sessions(items, offsets, np.zeros(31, np.int64), np.zeros(31, np.uint8), context)
    times = np.array([0, HOUR, 33 * HOUR, 33 * HOUR])
    return Samples(
        prefixes, np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32), times, np.array([0, 1, 1, 0], np.uint8)
    )


def found(**wanted: object) -> dict[str, list[str]]:
    facts = ItemFacts.of(TRAIN, 4)
    slices = slicings_of(samples(), facts, ("view", "buy"), **wanted)  # type: ignore[arg-type]
    return {slicing.name: [slicing.labels[code] for code in slicing.codes.tolist()] for slicing in slices}


def test_every_sample_has_its_values() -> None:
    slices = found(context=ContextColumns(("referrer",), (("search",),)))
    assert slices == {
        "session length": ["1 click", "2 clicks", "3 clicks", "over 20"],
        "first click": ["one click", "more clicks", "more clicks", "more clicks"],
        "target in session": ["new", "repeat", "repeat", "new"],
        "target popularity": ["top 1%", "10% to 50%", "50% to 100%", "never clicked in training"],
        "target age": ["under 1 hour", "1 to 24 hours", "1 to 7 days", "never clicked in training"],
        "time since training": [*["before its end"] * 2, *["1 to 7 days"] * 2],
        "hour (UTC)": ["00", "01", "09", "09"],
        "type": ["view", "buy", "buy", "view"],
        "referrer": ["search", "all others", "no value", "search"],
    }


def test_attributes_of_every_kind_and_those_asked_for() -> None:
    labels = Labels.of(["red", "blue", "green"])
    many_labels = Labels.of([f"item {number}" for number in range(60)])
    table = ItemTable(
        5,
        {
            "color": CategoryColumn(name="color", codes=np.array([0, 1, -1, 0, 2], np.int32), labels=labels),
            "sale": BooleanColumn(name="sale", values=np.array([0, 1, -1, 1, 0], np.int8)),
            "price": NumberColumn(name="price", values=np.array([1.0, 2.0, np.nan, 4.0, 3.0])),
            "tags": CategoriesColumn(
                name="tags", codes=np.array([0, 1, 1, 0], np.int32), offsets=np.array([0, 2, 4, 4, 4, 4]), labels=labels
            ),
            "title": CategoryColumn(name="title", codes=np.arange(5, dtype=np.int32), labels=many_labels),
            "stock": BooleanColumn(name="stock", values=np.ones(5, np.int8)),
        },
        availability="stock",
    )
    rows = np.array([3, 1, 2, -1])  # the data set has another order, and an item that the table lacks
    attributes = attributes_of(table, rows)
    values = {
        attribute.name: [attribute.labels[code] if code >= 0 else None for code in attribute.codes.tolist()]
        for attribute in attributes
    }
    assert values == {
        "color": ["red", "blue", None, None],
        "sale": ["yes", "yes", None, None],
        "price": ["over 3.25", "1.75 to 2.5", None, None],
        "tags": [None, "blue, red", None, None],
        "title": ["item 3", "item 1", "item 2", None],
    }
    views = NumberColumn(name="views", values=np.array([20_065.0, 80_260.0, 40_130.0, 60_195.0]))
    (counts,) = attributes_of(ItemTable(4, {"views": views}), np.arange(4))
    assert counts.labels == ("up to 35,114", "35,114 to 50,162", "50,162 to 65,211", "over 65,211")
    by_default = found(attributes=attributes)
    assert by_default["color"] == ["red", "blue", "no value", "no value"]
    price = next(
        slicing
        for slicing in slicings_of(samples(), ItemFacts.of(TRAIN, 4), attributes=attributes)
        if slicing.name == "price"
    )
    assert price.labels == ("1.75 to 2.5", "over 3.25", "no value")  # in their order, not by frequency
    assert "title" not in by_default  # more than 50 values
    assert found(attributes=attributes, names=["title"])["title"][:3] == ["item 3", "item 1", "item 2"]
    assert "color" not in found(attributes=attributes, names=["title"])
    with pytest.raises(UsageError, match=r"no slice 'hue'; .* are color, price, sale, tags, title$"):
        found(attributes=attributes, names=["hue"])
    # One item has a color, or none has the same one: no attribute groups the items, so vectors say what is alike.
    facts = ItemFacts.of(TRAIN, 4).with_content(attributes, np.zeros((4, 2), np.float32))
    assert facts.attributes == ()
    assert facts.vectors is not None
    pairs = Attribute("kind", np.array([0, 0, 1, 1], np.int32), ("a", "b"))
    grouped = facts.with_content((*attributes, pairs), facts.vectors)
    assert grouped.attributes == (pairs,)
    assert grouped.vectors is None


def test_slices_of_one_name_are_told_apart() -> None:
    """An item table and a context may have columns that are called like a slice, or like one another."""
    shapes = ("shoe", "hat")
    attributes = tuple(
        Attribute(name, np.array([0, 1, 0, 1], np.int32), shapes) for name in ("type", "hour (UTC)", "all")
    )
    slices = found(context=ContextColumns(("type",), (("search",),)), attributes=attributes)
    assert slices["type"] == ["view", "buy", "buy", "view"]
    assert slices["type (context)"] == ["search", "all others", "no value", "search"]
    assert slices["type (item)"] == slices["hour (UTC) (item)"] == ["shoe", "hat", "shoe", "hat"]
    assert slices["all (item)"] == ["shoe", "hat", "shoe", "hat"]  # `to_frame` calls all samples together "all"


def test_rare_values_are_one() -> None:
    rng = np.random.default_rng(0)
    count = 400
    codes = np.minimum(rng.geometric(0.12, count) - 1, 39).astype(np.int32)
    many_samples = Samples(
        Sessions.from_lists([[0]] * count), np.arange(count, dtype=np.int32), np.arange(count, dtype=np.int32)
    )
    attribute = Attribute("brand", codes, tuple(f"b{number}" for number in range(40)))
    facts = ItemFacts(np.ones(count, np.int64), np.zeros(count))
    brand = next(
        slicing for slicing in slicings_of(many_samples, facts, attributes=[attribute]) if slicing.name == "brand"
    )
    counts = np.bincount(brand.codes)
    assert len(brand.labels) == 13
    assert brand.labels[-1] == "all others"
    assert counts[:12].tolist() == np.sort(np.bincount(codes))[::-1][:12].tolist()
    assert counts.sum() == count
