"""Dates in conditions: as Python's datetime.fromisoformat reads them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import TimeColumn
from mtaw_fast.rules import BitmapCache, RuleSet

DAYS = [
    "1970-01-04", "19700104", "2024-W09-4", "2024W094", "2024-W09", "2024W09", "2020-W53-7", "2024-02-29", "9999-12-31",
    "2023-02-29", "2024-W00-1", "2021-W53-1", "2024-W10-8", "0000-01-01", "1970-1-4", "1970-0104", "197001-04", "",
]  # fmt: skip
CLOCKS = [
    "", "T01", "T01:30", " 01:30:05.25", "T0130", "T013005", "x013005,123456789", "é01:30", "T01:3005", "T0130:05",
    "T", "T1", "T24:00", "T01:60", "T01:30:", "T01:30:05.",
]  # fmt: skip
ZONES = [
    "", "Z", " +0100", " -05:00", " Z", " ", " x", "+02", "+02:00", "-0230", "+01:02:03.5", "+24:00", "z", "+", "Z1",
]  # fmt: skip


def meant(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def found(text: str) -> bool | None:
    """Return whether a condition finds the moment that Python reads; None if the text is refused."""
    moment = meant(text)
    column = TimeColumn(name="since", values=np.array([0 if moment is None else moment], dtype=np.int64))
    table = ItemTable(1, {"since": column})
    rules = RuleSet.of({"filter": f"since == {text!r}"})
    try:
        rules.check(table)
    except UsageError as error:
        assert "ISO date" in str(error)  # noqa: PT017
        return None
    assert rules.filter is not None
    return bool(BitmapCache().filter(rules.filter, table, 1).mask[0])


@pytest.mark.parametrize("day", DAYS)
def test_dates_are_those_of_python(day: str) -> None:
    # Oddities of Python's: an empty part in front of a zone, as in 01:30:Z, and no blank there after a fraction.
    texts = [
        day + clock + (zone if clock[-1:].isdigit() and not ("5.2" in clock and zone[:1] == " ") else "")
        for clock in CLOCKS
        for zone in ZONES
    ]
    wrong = [text for text in dict.fromkeys(texts) if found(text) != (True if meant(text) is not None else None)]
    assert not wrong
