"""Sessions in memory: their limits, and the bytes that they count for."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.service.sessions.in_memory import MemorySessions, session_bytes

PLENTY = 1 << 20  # bytes


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class PlainSessions:
    """A simple model of `MemorySessions`. kept: (id, expires, clicks), the oldest click first."""

    ttl: float
    max_sessions: int
    max_bytes: int
    clicks: int
    kept: list[tuple[str, float, list[Any]]] = field(default_factory=list)

    def sweep(self, now: float) -> None:
        self.kept = [entry for entry in self.kept if entry[1] > now]

    def click(self, now: float, session: str, items: list[Any]) -> list[Any]:
        """Return the session's latest clicks, even if it is too large to be kept."""
        self.sweep(now)
        clicks = [*next((clicks for name, _, clicks in self.kept if name == session), []), *items][-self.clicks :]
        self.kept = [entry for entry in self.kept if entry[0] != session]
        if session_bytes(session, clicks) <= self.max_bytes:
            self.kept.append((session, now + self.ttl, clicks))
        while len(self.kept) > self.max_sessions or self.bytes > self.max_bytes:
            del self.kept[0]
        return clicks

    @property
    def bytes(self) -> int:
        return sum(session_bytes(name, clicks) for name, _, clicks in self.kept)


ITEM = st.integers() | st.text(max_size=6) | st.integers(100, 900).map("x".__mul__) | st.just("🙂" * 100)
CLICK = st.tuples(st.sampled_from("abcde"), st.lists(ITEM, min_size=1, max_size=6))


@settings(max_examples=150, deadline=None)
@given(
    operations=st.lists(CLICK | st.floats(0, 15), max_size=40),
    max_sessions=st.integers(1, 4),
    max_bytes=st.integers(1, 9000),
    clicks=st.integers(1, 9),
)
def test_memory_stays_bounded_whatever_is_clicked(
    operations: list[Any], max_sessions: int, max_bytes: int, clicks: int
) -> None:
    clock = Clock()
    store = MemorySessions(10, max_sessions, max_bytes, clicks, clock)
    plain = PlainSessions(10, max_sessions, max_bytes, clicks)

    async def main() -> None:
        for operation in operations:
            if isinstance(operation, tuple):
                # What was evicted begins again, as what has expired does.
                assert (await store.click(*operation)).items == plain.click(clock.now, *operation)
            else:
                clock.now += operation
                plain.sweep(clock.now)
            kept = store.sweep()
            assert kept == (len(plain.kept), plain.bytes)
            assert kept.bytes <= max_bytes
            assert kept.sessions <= max_sessions

    asyncio.run(main())


@given(st.lists(ITEM, min_size=1, max_size=20))
def test_a_session_counts_for_at_least_its_memory(items: list[int | str]) -> None:
    before = session_bytes("visit-1", items)
    for item in items:
        msgspec.json.encode(item)  # Python keeps the UTF-8 of a text that was asked for
    assert session_bytes("visit-1", items) == before >= sum(map(sys.getsizeof, items)) + sys.getsizeof(items)


def test_many_sessions_count_for_at_least_what_python_allocates() -> None:
    store = MemorySessions(ttl=10, max_sessions=10_000, max_bytes=1 << 30, clicks=50)

    async def main() -> None:
        for number in range(2000):
            for t in range(number % 4):
                await store.click(f"visit-{number}", [f"sku-{number}-{t}", 10**12 + number, "ä" * (number % 50)])

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    asyncio.run(main())
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert allocated <= store.sweep().bytes <= 4 * allocated, allocated
