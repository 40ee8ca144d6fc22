"""Filters: the items that a search may return."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import UsageError

NOTHING = np.empty(0, dtype=np.int32)


def test_filter() -> None:
    everything = Filter.of(10, NOTHING, None)
    assert everything.count == 10
    condition = Filter.of(10, np.array([3, 9]), np.array([1, 3, 5]))
    assert condition.ids.tolist() == [1, 5]
    assert condition.banned.tolist() == [i not in (1, 5) for i in range(10)]
    assert np.unpackbits(condition.packed, bitorder="little")[:10].tolist() == condition.mask.tolist()
    assert (Filter.of(10, np.array([1]), None) & condition).ids.tolist() == [5]
    with pytest.raises(UsageError, match="a catalog of 9 items"):
        everything & Filter.of(9, NOTHING, None)
