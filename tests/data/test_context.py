"""The columns of a visit's context: codes, storage, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.context import ClickContext, ContextColumns, checked_context
from mtaw_fast.errors import DataError, UsageError

COLUMNS = ContextColumns(("referrer", "region"), (("search", "direct"), ("7",)))


def test_codes_of_known_other_and_missing_values() -> None:
    assert COLUMNS.sizes == (3, 2)
    for values, codes in (
        (None, [0, 0]),
        ({}, [0, 0]),
        ({"referrer": "search", "region": "7"}, [2, 2]),
        ({"referrer": "direct"}, [3, 0]),
        ({"referrer": "never seen", "region": "8"}, [1, 1]),
        ({"device": "phone"}, [0, 0]),  # a column of another bundle
    ):
        coded = COLUMNS.codes(values)
        assert (coded.dtype, coded.tolist()) == (np.uint16, codes)


@pytest.mark.parametrize("given", [None, 5, [{"name": "a"}], [{"name": "a", "values": 3}], [3]])
def test_damaged_columns(given: Any) -> None:
    with pytest.raises(DataError, match="damaged"):
        ContextColumns.from_dict(given)


def test_wrong_columns_and_codes() -> None:
    for names, values, message in (
        (("a", "a"), ((), ()), "each once"),
        (tuple("abcdefghi"), ((),) * 9, "at most 8"),
        (("a",), (("x", "x"),), "distinct"),
        (("a",), (tuple(map(str, range(1001))),), "more than 1000"),
        (("a", "b"), ((),), "a list"),
    ):
        with pytest.raises(DataError, match=message):
            ContextColumns(names, values)
    for codes in (np.zeros((2, 3), np.uint16), np.zeros((2, 2), np.int64), np.array([[4, 0]], np.uint16)):
        with pytest.raises(DataError, match="context"):
            ClickContext(COLUMNS, codes)


def test_context_from_outside() -> None:
    names = COLUMNS.names
    assert checked_context({"referrer": "search", "region": 7}, names) == {"referrer": "search", "region": "7"}
    assert checked_context({"referrer": None, "region": ""}, names) == {}
    assert checked_context({"anything": np.int64(3)}) == {"anything": "3"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("search", "values by column"),
        ([("referrer", "search")], "values by column"),
        ({"device": "phone"}, "not a context column; the bundle has referrer, region"),
        ({3: "x"}, "not a context column"),
        ({"referrer": 1.5}, "text or a whole number"),
        ({"referrer": True}, "text or a whole number"),
        ({"referrer": ["a"]}, "text or a whole number"),
        ({"referrer": "x" * 201}, "201 characters"),
        ({"referrer": "\ud800"}, "not valid Unicode"),
        ({str(n): "x" for n in range(9)}, "9 columns"),
    ],
)
def test_refused_context(given: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        checked_context(given, COLUMNS.names)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
