"""Items that are clicked together: the cosines of pairs, and the neighbors of an item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.memory import MemorySettings, MemoryTables
from tests.support.memory.queries import delta_of
from tests.support.memory.together import TABLES, TOGETHER, A, B, C, E


def neighbors(tables: MemoryTables, item: int, delta: MemoryDelta | None = None) -> tuple[np.ndarray, np.ndarray]:
    return _native.co_clicked_neighbors(tables.arrays(), None if delta is None else delta.native, item)


def cosine(tables: MemoryTables, item: int, other: int, delta: MemoryDelta | None = None) -> float:
    return _native.co_clicked_cosine(tables.arrays(), None if delta is None else delta.native, item, other)


class TestTogether:
    def test_cosines(self) -> None:
        others, cosines = neighbors(TABLES, A)
        assert dict(zip(others.tolist(), cosines.tolist(), strict=True)) == pytest.approx(
            {B: TOGETHER[A, B], C: TOGETHER[A, C]}
        )
        for (item, other), value in TOGETHER.items():
            assert cosine(TABLES, item, other) == pytest.approx(value)
            assert cosine(TABLES, other, item) == pytest.approx(value)
        assert cosine(TABLES, A, E) == cosine(TABLES, B, C) == cosine(TABLES, A, 99) == 0
        assert len(neighbors(TABLES, 99)[0]) == 0

    def test_cosine_of_a_pair_that_was_cut(self) -> None:
        """A's row stores one neighbor, B; one of A's latest three sessions contains C."""
        tables = MemoryTables.build(TABLES.sessions, 4, MemorySettings(max_neighbors=1, max_postings=3))
        assert neighbors(tables, A)[0].tolist() == [B]
        assert cosine(tables, A, C) == pytest.approx(TOGETHER[A, C])

    def test_without_a_forgotten_session(self) -> None:
        """Stored pairs, cut pairs and totals are those of tables without it."""
        for chosen in (MemorySettings(), MemorySettings(max_neighbors=1, max_postings=3)):
            tables = MemoryTables.build(TABLES.sessions, 4, chosen)
            for place in range(len(TABLES.sessions)):
                remaining = TABLES.sessions.select(np.delete(np.arange(len(TABLES.sessions)), place))
                rebuilt = MemoryTables.build(remaining, 4, replace(chosen, recency=tables.settings.recency))
                delta = delta_of(tables)
                assert delta.forget_base(place)
                for item in range(4):
                    for ours, theirs in zip(neighbors(tables, item, delta), neighbors(rebuilt, item), strict=True):
                        np.testing.assert_array_equal(ours, theirs)
                    for other in {0, 1, 2, 3} - {item}:
                        if chosen.max_neighbors > 1:
                            assert cosine(tables, item, other, delta) == cosine(rebuilt, item, other)
