"""Sessions that the server keeps: in memory, and in a real Redis that the tests start."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.http.problems import ServiceError
from mtaw_fast.service.sessions.in_memory import MemorySessions
from mtaw_fast.service.sessions.in_redis import RedisSessions
from mtaw_fast.service.sessions.stores import open_sessions
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
    eventually(lambda: text_service.metric("mtaw_sessions") >= 2)


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
        eventually(lambda: service.metric("mtaw_sessions") == 0)
        assert click(service, "a", "sku-12")["clicks"] == 1


def test_sessions_in_memory_take_no_more_than_they_may(text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", "memory", "--max-sessions-bytes", "5000") as service:
        for number in range(20):
            assert click(service, f"visit-{number}", "sku-11", "x" * 200)["clicks"] == 2
        assert click(service, "visit-0", "sku-12")["clicks"] == 1
        assert click(service, "visit-19", "sku-12")["clicks"] == 3
        eventually(lambda: service.metric("mtaw_sessions") > 1)
        assert 0 < service.metric("mtaw_sessions_bytes") <= 5000


class Redis:
    """A redis-server of our own on a free port."""

    options: tuple[str, ...] = ()

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
        self._process = subprocess.Popen([*command, *self.options], cwd=self._folder, stdout=subprocess.DEVNULL)
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


def test_a_kept_session_can_be_looked_at_and_forgotten(text_service: Running) -> None:
    path = "/v1/sessions/looked-at"
    assert text_service.ask("GET", path).code == "unknown_session"
    click(text_service, "looked-at", "sku-11", "nobody")
    click(text_service, "looked-at", "sku-12")
    for _ in range(2):
        reply = text_service.ask("GET", path)
        assert (reply.status, reply.json) == (200, {"version": reply.version, "clicks": ["sku-11", "nobody", "sku-12"]})
    assert text_service.ask("GET", path, headers={"Origin": "http://evil.example"}).code == "foreign_origin"
    assert text_service.ask("GET", "/v1/sessions/a%20b").code == "invalid_request"
    told = text_service.ask("OPTIONS", path)
    assert (told.status, told.headers["allow"]) == (204, "DELETE, GET, OPTIONS")
    assert text_service.ask("DELETE", path).status == 200
    assert (text_service.ask("GET", path).status, text_service.ask("GET", path).code) == (404, "unknown_session")


def test_reasons_for_a_long_session_are_refused_before_its_click_is_kept(text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", "memory") as service:
        click(service, "a", *(f"sku-{number}" for number in range(400)), k=500)
        asked = {"items": ["sku-11"], "k": 30, "reasons": True}
        reply = service.ask("POST", "/v1/sessions/a/click", asked)
        assert (reply.status, reply.code) == (400, "too_many_reasons")
        assert click(service, "a", "sku-12", k=20, reasons=True)["clicks"] == 401


def test_looking_does_not_make_a_session_stay(redis: Redis) -> None:
    clock = Clock()
    memory = MemorySessions(ttl=10, most=9, most_bytes=PLENTY, clicks=9, clock=clock)
    shared = RedisSessions(redis.url, ttl=0.4, clicks=3, timeout=2)

    async def main() -> None:
        for store in (memory, shared):
            assert await store.clicks("a") == []
            await store.click("a", ["x", 7])
            assert await store.clicks("a") == ["x", 7]
        clock.now += 6
        assert await memory.clicks("a") == ["x", 7]
        clock.now += 6
        await asyncio.sleep(0.6)
        assert await memory.clicks("a") == await shared.clicks("a") == []
        redis.stop()
        with pytest.raises(ServiceError) as caught:
            await shared.clicks("a")
        assert (caught.value.status, caught.value.code) == (503, "sessions_unavailable")
        await shared.close()

    asyncio.run(main())
