"""Deltas, random streams of clicks on them, and what they are compared with: tables of the sessions of both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from bench.memory_reference.tables import delta_rows
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import QuerySettings, SessionMemory
from mtaw_fast.memory import MemorySettings, MemoryTables
from tests.support.memory.queries import random_ranker

K = 20


def delta_of(tables: MemoryTables, capacity: int = 0, max_clicks: int = 512) -> MemoryDelta:
    """Return an empty delta over the tables."""
    return MemoryDelta(tables.arrays(), tables.settings.native, capacity=capacity, max_clicks=max_clicks)


@dataclass(slots=True)
class SessionModel:
    """The sessions of the tables and of a delta, in plain Python.

    base: the tables' sessions, None if removed. updated: the delta's by handle, in the order of last clicks.
    """

    base: list[list[int] | None]
    max_clicks: int = 512
    updated: dict[int, list[int]] = field(default_factory=dict)
    ignored: int = 0

    @classmethod
    def of(cls, sessions: Sessions, max_clicks: int = 512) -> SessionModel:
        """Return the sessions of the tables alone."""
        return cls([session.tolist() for session in sessions], max_clicks)

    def click(self, handle: int, item: int) -> None:
        """Add a click."""
        if len(self.updated.get(handle, ())) >= self.max_clicks:
            self.ignored += 1
            return
        self.updated[handle] = [*self.updated.pop(handle, []), item]

    def resume(self, handle: int, base_session: int) -> None:
        """Continue a session of the tables."""
        clicks = self.base[base_session]
        assert clicks is not None
        self.base[base_session] = None
        self.updated[handle] = clicks

    def forget(self, handle: int) -> bool:
        """Do what MemoryDelta.forget does."""
        return self.updated.pop(handle, None) is not None

    def forget_base(self, base_session: int) -> bool:
        """Do what MemoryDelta.forget_base does."""
        present = self.base[base_session] is not None
        self.base[base_session] = None
        return present

    @property
    def sessions(self) -> Sessions:
        """All remaining sessions, in the order for building tables."""
        remaining = [session for session in self.base if session is not None]
        return Sessions.from_lists([*remaining, *self.updated.values()])


def random_clicks(
    rng: np.random.Generator,
    n_events: int,
    n_items: int,
    *,
    open_sessions: int = 20,
    power: float = 3.0,
    mean: float = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Return events of interleaved sessions: (handles int64[E], items int32[E]), items by a power law."""
    alive = list(range(open_sessions))
    next_handle = open_sessions
    handles = np.empty(n_events, np.int64)
    for event in range(n_events):
        index = int(rng.integers(len(alive)))
        handles[event] = alive[index]
        if rng.random() < 1 / mean:
            alive[index], next_handle = next_handle, next_handle + 1
    items = (n_items * rng.random(n_events) ** power).astype(np.int32)
    repeats = rng.random(n_events) < 0.15
    last: dict[int, int] = {}
    for event in range(n_events):
        handle = int(handles[event])
        if repeats[event] and handle in last:
            items[event] = last[handle]
        last[handle] = int(items[event])
    return handles, items


def memory_of(tables: MemoryTables, delta: MemoryDelta | None, n_catalog: int, isa: str | None = None) -> SessionMemory:
    recency = tables.settings.recency
    assert recency is not None
    return SessionMemory(
        tables.arrays(), recency, n_catalog, QuerySettings(own=60, others=150, dense=0), isa=isa, delta=delta,
        once_from=tables.settings.once_from,
    )  # fmt: skip


def ranges_of(sessions: Sessions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sessions.items, sessions.offsets[:-1].copy(), sessions.offsets[1:].copy()


def as_rebuilt(tracker: SessionModel, base: MemoryTables, n_items: int) -> MemoryTables:
    """Return tables of everything, with the recency of the base."""
    first = base.settings.once_from
    if first is not None:
        first -= sum(session is None for session in tracker.base[:first])
    return MemoryTables.build(tracker.sessions, n_items, replace(base.settings, once_from=first))


def ranked(memory: SessionMemory, queries: Sessions, seed: int = 0) -> np.ndarray:
    return memory.rank(random_ranker(seed).native(), *ranges_of(queries), K)[0]


def assert_rows(delta: MemoryDelta, tracker: SessionModel, chosen: MemorySettings, n_items: int) -> None:
    """Compare rows and counts of every item with plain Python."""
    updated = list(tracker.updated.values())
    rows = delta_rows(updated, chosen, chosen.once_from is not None and chosen.once_from <= len(tracker.base))
    for item in range(n_items):
        neighbors, values = delta.row(item)
        expected = rows.get(item, {})
        assert sorted(neighbors.tolist()) == sorted(expected)
        for neighbor, value in zip(neighbors.tolist(), values, strict=True):
            np.testing.assert_allclose(value, expected[neighbor], rtol=1e-9, atol=1e-12)
        clicks = [(s, t) for s, session in enumerate(updated) for t, click in enumerate(session) if click == item]
        holders = sorted({s for s, _ in clicks})
        later = sum(item in updated[s][t + 1 :] for s, t in clicks)
        at_once = sum(updated[s][t + 1 : t + 2] == [item] for s, t in clicks)
        assert delta.counts(item).tolist() == [
            len(clicks), len(holders), later, at_once, holders[-1] if holders else -1
        ]  # fmt: skip


def agreement(updated_memory: np.ndarray, rebuilt: np.ndarray) -> float:
    """Return the share of places with the same item."""
    return float((updated_memory == rebuilt).mean())


def fed(base: MemoryTables, handles: np.ndarray, items: np.ndarray, **limits: int) -> tuple[MemoryDelta, SessionModel]:
    """Return a delta and its sessions after some clicks."""
    delta, tracker = delta_of(base, **limits), SessionModel.of(base.sessions)
    delta.click(handles, items)
    for handle, item in zip(handles.tolist(), items.tolist(), strict=True):
        tracker.click(handle, item)
    return delta, tracker


def queries(n_items: int, seed: int, count: int = 150) -> Sessions:
    rng = np.random.default_rng(seed)
    return Sessions.from_lists([(n_items * rng.random(rng.integers(1, 9)) ** 2).astype(int) for _ in range(count)])


def strangers(wanted: Sessions, tracker: SessionModel) -> Sessions:
    """Return the queries that equal no session: such a session would count as the querying one."""
    sessions = list(tracker.updated.values())
    return Sessions.from_lists([query for query in wanted if query.tolist() not in sessions])


def by_item(ids: np.ndarray, values: np.ndarray) -> dict[int, np.ndarray]:
    return {item: values[index] for index, item in enumerate(ids.tolist()) if item >= 0}
