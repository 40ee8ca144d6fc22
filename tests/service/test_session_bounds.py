"""Sessions in memory: bounded in number and bytes whatever is clicked, and counted for at least what they take."""

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
from tests.service.test_sessions import Clock


@dataclass
class PlainSessions:
    """What `MemorySessions` is to do, counted again at every click: (id, expires, clicks), the oldest click first."""

    ttl: float
    most: int
    most_bytes: int
    clicks: int
    held: list[tuple[str, float, list[Any]]] = field(default_factory=list)

    def sweep(self, now: float) -> None:
        """Forget what has expired."""
        self.held = [one for one in self.held if one[1] > now]

    def click(self, now: float, session: str, items: list[Any]) -> list[Any]:
        """What is kept of the session; where it alone is too large, what would have been."""
        self.sweep(now)
        clicks = [*next((clicks for name, _, clicks in self.held if name == session), []), *items][-self.clicks :]
        self.held = [one for one in self.held if one[0] != session]
        if session_bytes(session, clicks) <= self.most_bytes:
            self.held.append((session, now + self.ttl, clicks))
        while len(self.held) > self.most or self.bytes > self.most_bytes:
            del self.held[0]
        return clicks

    @property
    def bytes(self) -> int:
        """Of all sessions."""
        return sum(session_bytes(name, clicks) for name, _, clicks in self.held)


ITEM = st.integers() | st.text(max_size=6) | st.integers(100, 900).map("x".__mul__) | st.just("🙂" * 100)
CLICK = st.tuples(st.sampled_from("abcde"), st.lists(ITEM, min_size=1, max_size=6))


@settings(max_examples=150, deadline=None)
@given(
    operations=st.lists(CLICK | st.floats(0, 15), max_size=40),
    most=st.integers(1, 4),
    most_bytes=st.integers(1, 9000),
    clicks=st.integers(1, 9),
)
def test_memory_stays_bounded_whatever_is_clicked(
    operations: list[Any], most: int, most_bytes: int, clicks: int
) -> None:
    clock = Clock()
    store = MemorySessions(10, most, most_bytes, clicks, clock)
    plain = PlainSessions(10, most, most_bytes, clicks)

    async def main() -> None:
        for operation in operations:
            if isinstance(operation, tuple):
                # What was evicted begins again, as what has expired does.
                assert await store.click(*operation) == plain.click(clock.now, *operation)
            else:
                clock.now += operation
                plain.sweep(clock.now)
            held = store.sweep()
            assert held == (len(plain.held), plain.bytes)
            assert held.bytes <= most_bytes
            assert held.sessions <= most

    asyncio.run(main())


def test_a_session_too_large_is_answered_but_not_kept_and_drives_no_other_out() -> None:
    store = MemorySessions(ttl=10, most=9, most_bytes=5000, clicks=9)

    async def main() -> None:
        await store.click("other", ["x"])
        assert await store.click("a", ["y" * 3000]) == ["y" * 3000]
        assert await store.click("a", ["z" * 3000]) == ["y" * 3000, "z" * 3000]
        assert await store.click("a", ["x"]) == ["x"]
        assert await store.click("other", ["y"]) == ["x", "y"]

    asyncio.run(main())


@given(st.lists(ITEM, min_size=1, max_size=20))
def test_a_session_counts_for_at_least_what_it_takes(items: list[int | str]) -> None:
    before = session_bytes("visit-1", items)
    for item in items:
        msgspec.json.encode(item)  # Python keeps the UTF-8 of a text that was asked for
    assert session_bytes("visit-1", items) == before >= sum(map(sys.getsizeof, items)) + sys.getsizeof(items)


def test_many_sessions_count_for_at_least_what_python_allocates() -> None:
    store = MemorySessions(ttl=10, most=10_000, most_bytes=1 << 30, clicks=50)

    async def main() -> None:
        for number in range(2000):
            for t in range(number % 4):
                await store.click(f"visit-{number}", [f"sku-{number}-{t}", 10**12 + number, "ä" * (number % 50)])

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    asyncio.run(main())
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken <= store.sweep().bytes <= 4 * taken, taken
