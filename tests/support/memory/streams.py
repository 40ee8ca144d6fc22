"""Random streams of clicks on a delta, and the resulting sessions in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.memory import MemoryTables


def delta_of(tables: MemoryTables, capacity: int = 0, max_clicks: int = 512) -> MemoryDelta:
    """Return an empty delta over the tables."""
    chosen = tables.settings
    assert chosen.recency is not None
    return MemoryDelta(
        tables.arrays(), window=chosen.window, span=chosen.span, recency=chosen.recency,
        max_neighbors=chosen.max_neighbors, max_postings=chosen.max_postings, once_from=chosen.once_from,
        capacity=capacity, max_clicks=max_clicks,
    )  # fmt: skip


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
