"""Sessions that the server keeps: in memory, and in a real Redis that the tests start."""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.errors import UsageError
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.problems import ServiceError
from mtaw_fast.service.sessions import MemorySessions, RedisSessions, open_sessions, session_bytes
from mtaw_fast.service.settings import Settings
from tests.service.conftest import BIG
from tests.service.running import Running, eventually, running

PLENTY = 1 << 20  # bytes


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_clicks_add_up_and_the_last_ones_are_kept() -> None:
    store = MemorySessions(ttl=10, most=9, most_bytes=PLENTY, clicks=3)

    async def main() -> None:
        assert await store.click("a", ["x"]) == ["x"]
        assert await store.click("b", [7]) == [7]
        assert await store.click("a", ["y", 5]) == ["x", "y", 5]
        assert await store.click("a", ["z"]) == ["y", 5, "z"]
        assert await store.click("b", [8]) == [7, 8]

    asyncio.run(main())


def test_a_session_is_forgotten_after_its_last_click() -> None:
    clock = Clock()
    store = MemorySessions(ttl=10, most=9, most_bytes=PLENTY, clicks=9, clock=clock)

    async def main() -> None:
        await store.click("a", ["x"])
        await store.click("b", ["x"])
        clock.now += 6
        await store.click("a", ["y"])
        clock.now += 6
        assert store.sweep().sessions == 1
        assert await store.click("b", ["z"]) == ["z"]
        assert await store.click("a", ["z"]) == ["x", "y", "z"]
        clock.now += 10
        assert store.sweep() == (0, 0)

    asyncio.run(main())


def test_the_session_idle_for_longest_makes_room() -> None:
    store = MemorySessions(ttl=10, most=2, most_bytes=PLENTY, clicks=9)

    async def main() -> None:
        for session in ("a", "b", "a", "c"):
            await store.click(session, ["x"])
        assert store.sweep().sessions == 2
        assert await store.click("a", ["y"]) == ["x", "x", "y"]
        assert await store.click("b", ["y"]) == ["y"]

    asyncio.run(main())


@dataclass
class PlainSessions:
    """What `MemorySessions` is to do, counted anew at every click: (id, expires, clicks), the oldest click first."""

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
                # What was evicted begins anew, as what has expired does.
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


def test_memory_needs_one_worker(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--workers 1 or --sessions redis://"):
        Settings(tmp_path, workers=2, sessions="memory")
    with pytest.raises(UsageError, match="redis:// address"):
        Settings(tmp_path, sessions="memcached://x")
    assert open_sessions(Settings(tmp_path), 1) is None


def click(service: Running, session: str, *items: Any, **asked: Any) -> Any:
    """The answer to clicks."""
    reply = service.ask("POST", f"/v1/sessions/{session}/click", {"items": items, **asked})
    assert reply.status == 200, reply.body
    assert reply.json["version"] == reply.version
    return reply.json


def test_a_click_is_answered_with_the_ranking_of_the_whole_session(text_service: Running, text_bundle: Path) -> None:
    rec = Recommender.load(text_bundle)
    assert click(text_service, "visit-1", "sku-11", k=5)["items"] == rec.recommend(["sku-11"], 5).items
    click(text_service, "visit-2", "sku-50")
    answer = click(text_service, "visit-1", "sku-12", "nobody", k=5, exclude_seen=True, repeats=True, timings=True)
    out = rec.recommend(["sku-11", "sku-12", "nobody"], 5, exclude_seen=True)
    assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
    assert (answer["clicks"], answer["unknown"], answer["repeats"]) == (3, ["nobody"], [False] * 5)
    assert answer["timings"]["encode"] > 0
    eventually(lambda: text_service.metric("mtaw_live_sessions") >= 2)


def test_a_service_keeps_the_last_clicks(text_service: Running, text_bundle: Path) -> None:
    click(text_service, "long", *["sku-11"] * 40)
    answer = click(text_service, "long", "sku-12", k=5)
    assert answer["clicks"] == 40
    expected = Recommender.load(text_bundle).recommend([*["sku-11"] * 39, "sku-12"], 5)
    assert answer["items"] == expected.items


def test_sessions_in_memory_expire(text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", "memory", "--session-ttl", "0.3") as service:
        assert click(service, "a", "sku-11")["clicks"] == 1
        assert click(service, "a", "sku-12")["clicks"] == 2
        eventually(lambda: service.metric("mtaw_live_sessions") == 0)
        assert click(service, "a", "sku-12")["clicks"] == 1


def test_sessions_in_memory_take_no_more_than_they_may(text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", "memory", "--max-sessions-bytes", "5000") as service:
        for number in range(20):
            assert click(service, f"visit-{number}", "sku-11", "x" * 200)["clicks"] == 2
        assert click(service, "visit-0", "sku-12")["clicks"] == 1
        assert click(service, "visit-19", "sku-12")["clicks"] == 3
        eventually(lambda: service.metric("mtaw_live_sessions") > 1)
        assert 0 < service.metric("mtaw_live_sessions_bytes") <= 5000


class Redis:
    """A redis-server of our own on a free port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        eventually(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    """A running Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    server = Redis(tmp_path)
    yield server
    server.stop()


def test_the_redis_store(redis: Redis) -> None:
    store = RedisSessions(redis.url, ttl=0.4, clicks=3, timeout=2)

    async def main() -> None:
        assert await store.click("a", ["x", "7", 7]) == ["x", "7", 7]
        assert await store.click("a", ["ä🙂\u0000", BIG]) == [7, "ä🙂\u0000", BIG]
        assert await store.click("b", [-5]) == [-5]
        await asyncio.sleep(0.6)
        assert await store.click("a", ["y"]) == ["y"]
        together = await asyncio.gather(*(store.click("c", [number]) for number in range(3)))
        assert max(map(len, together)) == 3  # none was lost
        await store.close()

    asyncio.run(main())


def test_a_store_that_does_not_answer_is_a_503(redis: Redis) -> None:
    store = RedisSessions(redis.url, ttl=9, clicks=3, timeout=1)
    redis.stop()
    with pytest.raises(ServiceError) as caught:
        asyncio.run(store.click("a", ["x"]))
    assert (caught.value.status, caught.value.code) == (503, "sessions_unavailable")


def test_workers_share_sessions_in_redis(redis: Redis, text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", redis.url, workers=2) as service:
        counts = [click(service, "shared", "sku-11")["clicks"] for _ in range(12)]
        assert counts == list(range(1, 13))
        redis.stop()
        reply = service.ask("POST", "/v1/sessions/shared/click", {"items": ["sku-11"]})
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "sessions_unavailable", "1")
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        redis.start()
        assert click(service, "shared", "sku-11")["clicks"] == 1
