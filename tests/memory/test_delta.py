"""Tables and a delta beside them: rows, counts and rankings as those of tables built from the sessions of both."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.reference.delta import delta_rows
from tests.memory.queries import random_ranker
from tests.memory.streams import Book
from tests.native.builds import instruction_sets

ISAS = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]
K = 20
WIDE = MemorySettings()


def memory_of(tables: MemoryTables, delta: MemoryDelta | None, n_catalog: int, isa: str | None = None) -> SessionMemory:
    recency = tables.settings.recency
    assert recency is not None
    return SessionMemory(tables.arrays(), recency, n_catalog, own=60, others=150, dense=0, isa=isa, delta=delta)


def asked(sessions: Sessions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sessions.items, sessions.offsets[:-1].copy(), sessions.offsets[1:].copy()


def as_rebuilt(book: Book, base: MemoryTables, n_items: int) -> MemoryTables:
    """Tables of everything, with the base's number of sessions as its recency."""
    return MemoryTables.build(book.sessions, n_items, base.settings)


def ranked(memory: SessionMemory, queries: Sessions, seed: int = 0) -> np.ndarray:
    return memory.rank(random_ranker(seed).native(), *asked(queries), K)[0]


def assert_rows(delta: MemoryDelta, book: Book, chosen: MemorySettings, n_items: int) -> None:
    """Rows and counts of every item, against plain Python."""
    grown = list(book.grown.values())
    rows = delta_rows(grown, chosen)
    for item in range(n_items):
        neighbours, values = delta.row(item)
        expected = rows.get(item, {})
        assert sorted(neighbours.tolist()) == sorted(expected)
        for other, found in zip(neighbours.tolist(), values, strict=True):
            np.testing.assert_allclose(found, expected[other], rtol=1e-9, atol=1e-12)
        clicks = [(s, t) for s, session in enumerate(grown) for t, one in enumerate(session) if one == item]
        holders = sorted({s for s, _ in clicks})
        later = sum(item in grown[s][t + 1 :] for s, t in clicks)
        at_once = sum(grown[s][t + 1 : t + 2] == [item] for s, t in clicks)
        assert delta.counts(item).tolist() == [
            len(clicks), len(holders), later, at_once, holders[-1] if holders else -1
        ]  # fmt: skip


def agreement(live: np.ndarray, rebuilt: np.ndarray) -> float:
    """The share of places with the same item."""
    return float((live == rebuilt).mean())
