"""Weights by type as they are given: text or mapping, checked against the data set's types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtaw_fast.config.type_weights import by_code, parsed
from mtaw_fast.errors import UsageError

NAMES = ("view", "cart", "a=b")


def test_text_and_mapping_say_the_same() -> None:
    weights = {"view": 1.0, "cart": 0.5, "a=b": 8.0}
    assert parsed("view=1, cart=0.5,a=b=8") == parsed(weights) == weights
    assert parsed("") == {}
    codes = by_code("cart=3,a=b=0", NAMES)
    assert codes is not None
    assert codes.dtype == np.float32
    assert codes.tolist() == [1, 3, 0]


@pytest.mark.parametrize("weights", ["", "view=1", "view=1,cart=1.0", {}])
def test_ones_are_no_weights(weights: Any) -> None:
    assert by_code(weights, NAMES) is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("view", "not a weight; write them as view=1,cart=3"),
        ("=3", "not a weight"),
        ("view=1,,cart=2", "not a weight"),
        ("view=x", "the weight of 'view' must be a number of at least 0"),
        ("view=-1", "must be a number of at least 0, not '-1'"),
        ("view=nan", "must be a number"),
        ("view=inf", "must be a number"),
        ({"view": None}, "must be a number"),
        ("view=1,view=2", "two weights"),
        ("buy=1", "no type 'buy' in the data set; its types are view, cart, a=b"),
        ("view=1e39", "the weight of 'view', 1e\\+39, does not fit float32; only the ratios matter"),
        ("view=1e-46", "the weight of 'view', 1e-46, does not fit float32"),
        ("view=0,cart=0,a=b=0", "every type of the data set has the weight 0"),
    ],
)
def test_nonsense_is_one_line(weights: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        by_code(weights, NAMES, "here")
    assert str(raised.value).startswith("here: ")
    assert "\n" not in str(raised.value)


def test_a_set_without_types_has_none_to_weigh() -> None:
    with pytest.raises(UsageError, match="the data set's clicks have no types; prepare it with --type"):
        by_code("view=2", ())
