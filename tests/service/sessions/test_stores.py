"""What every store of sessions does: the one in memory and the one in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mtaw_fast.service.sessions.in_memory import MemorySessions, SessionStore, max_session_bytes, session_bytes
from mtaw_fast.service.sessions.in_redis import RedisSessions
from tests.service.conftest import BIG

Open = Callable[..., SessionStore]


@pytest.fixture(params=["memory", "redis"])
def store_with(request: pytest.FixtureRequest) -> Open:
    """Open a store with a time to live; it keeps the last 3 clicks, or `clicks`."""
    if request.param == "memory":
        return lambda ttl, clicks=3: MemorySessions(ttl, 9, 1 << 30, clicks)
    url = request.getfixturevalue("redis").url
    return lambda ttl, clicks=3: RedisSessions(url, ttl, clicks, timeout=5)


def test_clicks_add_up_until_the_session_expires(store_with: Open) -> None:
    async def main() -> None:
        store = store_with(0.4)
        assert (await store.click("a", ["x", "7", 7])).items == ["x", "7", 7]
        assert (await store.click("a", ["ä🙂\u0000", BIG])).items == [7, "ä🙂\u0000", BIG]
        assert (await store.click("b", [-5])).items == [-5]
        await asyncio.sleep(0.6)
        assert (await store.click("a", ["y"])).items == ["y"]
        together = await asyncio.gather(*(store.click("c", [number]) for number in range(3)))
        assert max(len(reply.items) for reply in together) == 3  # none was lost
        await store.close()

    asyncio.run(main())


def test_reading_a_session_does_not_extend_its_time_to_live(store_with: Open) -> None:
    async def main() -> None:
        store = store_with(0.4)
        assert await store.clicks("a") == []
        await store.click("a", ["x", 7])
        assert await store.context("a", {"referrer": "mail"}) == {"referrer": "mail"}
        assert await store.context("a", None) == {"referrer": "mail"}
        assert await store.clicks("a") == ["x", 7]
        await asyncio.sleep(0.3)
        await store.clicks("a")
        await asyncio.sleep(0.3)
        assert await store.clicks("a") == []
        await asyncio.sleep(0.2)
        assert await store.context("a", None) is None
        await store.close()

    asyncio.run(main())


def test_clicks_keep_their_types(store_with: Open) -> None:
    async def main() -> None:
        store = store_with(9)
        assert await store.click("a", ["x"]) == (["x"], None)
        assert await store.click("a", ["y", 5], ["cart", None]) == (["x", "y", 5], [None, "cart", None])
        assert await store.click("a", [7], ["view"]) == (["y", 5, 7], ["cart", None, "view"])
        assert await store.clicks("a") == ["y", 5, 7]
        assert await store.click("a", [1, 2, 3]) == ([1, 2, 3], None)
        await store.forget("a")
        assert await store.clicks("a") == []
        if isinstance(store, MemorySessions):
            assert store.sweep() == (0, 0)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("character", ["x", "\x01", "日", "🙂"])
def test_a_session_of_long_ids_keeps_fewer_clicks(
    store_with: Open, character: str, request: pytest.FixtureRequest
) -> None:
    from redis import Redis

    items = [f"{number:04}" + character * 508 for number in range(1040)]

    async def main() -> None:
        store = store_with(9, 1000)
        await store.click("a", items[:1000])
        for item in items[1000:]:
            kept = (await store.click("a", [item])).items
        assert kept == items[-len(kept) :] == await store.clicks("a")
        if isinstance(store, MemorySessions):
            size = session_bytes("a", kept)
            assert store.sweep() == (1, size)
        else:
            lines = Redis(port=request.getfixturevalue("redis").port).lrange("mtaw:session:a", 0, -1)
            assert len(lines) == len(kept)
            size = sum(map(len, lines))
        assert max_session_bytes(1000) - 5000 < size <= max_session_bytes(1000)
        other = await store.click("b", [f"item-{number:020}" for number in range(1000)])
        assert len(other.items) == 1000
        await store.close()

    asyncio.run(main())
