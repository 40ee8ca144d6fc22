"""Search of item ids by a part of them: for people who look for an item, not for the hot path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.recommender import Recommender

_STEP = 1 << 20  # bytes of ids between two checks of the deadline
_DIGITS = 19  # of an int64


def find_ids(recommender: Recommender, text: str, limit: int, check_deadline: Callable[[], None]) -> list[Any]:
    """Return external ids that contain a text; of integers, those that begin with its digits.

    The id that equals the text comes first, the others are in the order of the catalog. `check_deadline` is called now
    and then.
    """
    ids, base = recommender.ids, recommender.bundle.ids
    matches: dict[Any, None] = {}
    exact: int | str = text
    if base.kind == "int":
        if not re.fullmatch(r"-?[0-9]{1,19}", text):
            return []
        exact = int(text)
    if exact in ids:
        matches[exact] = None
    internal_ids = _numbers(base, text) if base.kind == "int" else _texts(base, text, check_deadline)
    for internal_id in internal_ids:
        if len(matches) >= limit:
            return list(matches)
        (item,) = ids.external(np.array([internal_id], dtype=np.int32))
        matches[item] = None
    for item in ids.external(np.arange(len(base), len(ids), dtype=np.int32)):  # added while serving
        if len(matches) < limit and (str(item).startswith(text) if base.kind == "int" else text in item):
            matches[item] = None
    return list(matches)


def _texts(ids: ItemIds, text: str, check_deadline: Callable[[], None]) -> Iterator[int]:
    """Yield the internal ids of texts that contain `text`, ascending."""
    blob, offsets = ids.arrays["blob"], ids.arrays["offsets"]
    encoded = text.encode("utf-8", "surrogatepass")
    begin = 0
    while begin < len(ids):
        check_deadline()
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + _STEP, side="right")) - 1)
        base, stop = int(offsets[begin]), int(offsets[end])
        chunk = blob[base:stop].tobytes()
        offset = chunk.find(encoded)
        while offset >= 0:
            internal_id = int(np.searchsorted(offsets, base + offset, side="right")) - 1
            if base + offset + len(encoded) <= int(offsets[internal_id + 1]):
                yield internal_id
                offset = int(offsets[internal_id + 1]) - base
            else:  # across two ids
                offset += 1
            offset = chunk.find(encoded, offset)
        begin = end


def _numbers(ids: ItemIds, text: str) -> Iterator[int]:
    """Yield the internal ids of numbers whose decimal digits begin with `text`, the shortest numbers first."""
    ordered, order = ids.arrays["sorted"], ids.arrays["order"]
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if digits.startswith("0"):
        return  # no number but 0 itself begins with 0
    for zeros in range(1, _DIGITS + 1 - len(digits)):
        low = int(digits) * 10**zeros
        high = low + 10**zeros - 1
        first, last = (low, high) if sign > 0 else (-high, -low)
        limits = np.iinfo(np.int64)
        if first > limits.max or last < limits.min:
            return
        begin = int(np.searchsorted(ordered, max(first, limits.min), side="left"))
        end = int(np.searchsorted(ordered, min(last, limits.max), side="right"))
        for row in range(begin, end):
            yield int(order[row])
