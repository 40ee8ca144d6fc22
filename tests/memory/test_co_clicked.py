"""Items that are clicked together: the cosines of pairs, and the neighbors of an item."""

from __future__ import annotations

import pytest

from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.co_clicked import cosine, neighbors
from tests.support.memory.together import TABLES, TOGETHER, A, B, C, E


class TestTogether:
    def test_cosines(self) -> None:
        others, cosines = neighbors(TABLES, A)
        assert dict(zip(others.tolist(), cosines.tolist(), strict=True)) == pytest.approx(
            {B: TOGETHER[A, B], C: TOGETHER[A, C]}
        )
        for (one, other), value in TOGETHER.items():
            assert cosine(TABLES, one, other) == pytest.approx(value)
            assert cosine(TABLES, other, one) == pytest.approx(value)
        assert cosine(TABLES, A, E) == cosine(TABLES, B, C) == cosine(TABLES, A, 99) == 0
        assert len(neighbors(TABLES, 99)[0]) == 0

    def test_cosine_of_a_pair_that_was_cut(self) -> None:
        """A's row stores one neighbor, B; one of A's latest three sessions contains C."""
        tables = MemoryTables.build(TABLES.sessions, 4, MemorySettings(max_neighbors=1, max_postings=3))
        assert neighbors(tables, A)[0].tolist() == [B]
        assert cosine(tables, A, C) == pytest.approx(TOGETHER[A, C])
