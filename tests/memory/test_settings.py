"""The settings of the session memory."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemorySettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 0), ("window", 2.0), ("span", 0), ("span", 2**31), ("recency_share", 0.0),
        ("recency_share", math.nan), ("recency", 0.0), ("recency", math.inf), ("max_neighbors", -1),
        ("max_postings", -1),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"memory: {name}={value} is out of range"):
        MemorySettings(**{name: value})
