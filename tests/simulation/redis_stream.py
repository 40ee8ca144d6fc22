"""A Redis stream in memory, as `redis.Redis` offers one: it may not answer, before or after it did what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.simulation.world import World


class RedisStream:
    """One stream on another machine, which keeps what it acknowledged."""

    def __init__(self, world: World) -> None:
        import redis

        self._world, self._error = world, redis.ConnectionError
        self._last = (0, 0)
        self.readers: dict[bytes, bytes] = {}
        self.entries: dict[tuple[int, int], dict[bytes, bytes]] = {}

    def _call(self, name: str, work: Any) -> Any:
        fault = self._world.call("redis", name, quiet=True)
        fails = fault is not None and fault.kind == "error"
        if fault is None or not fails or fault.after:
            result = work()
        if fails:
            raise self._error("the connection was reset")
        self._world.after(fault)
        return result

    def ping(self) -> bool:
        return self._call("ping", lambda: True)

    def close(self) -> None:
        pass

    def pipeline(self, transaction: bool) -> _Pipeline:
        assert transaction
        return _Pipeline(self)

    def add_all(self, lines: list[dict[bytes, bytes]]) -> list[Any]:
        return self._call("exec", lambda: [self._add(line) for line in lines] + [len(self.entries)])

    def _add(self, line: dict[bytes, bytes]) -> bytes:
        ms, number = self._last
        self._last = (self._world.ms, 0) if self._world.ms > ms else (ms, number + 1)
        self.entries[self._last] = line
        return _text(self._last)

    def xrange(self, name: str, min: str, count: int) -> list[Any]:
        least = (-1, 0) if min == "-" else _parsed(min[1:])
        return self._call(
            "xrange", lambda: [(_text(place), line) for place, line in self.entries.items() if place > least][:count]
        )

    def xrevrange(self, name: str, count: int) -> list[Any]:
        return self._call("xrevrange", lambda: [(_text(place), line) for place, line in self.entries.items()][-count:])

    def xlen(self, name: str) -> int:
        return self._call("xlen", lambda: len(self.entries))

    def memory_usage(self, name: str) -> int:
        return self._call("memory_usage", lambda: 100 * len(self.entries))

    def xtrim(self, name: str, minid: str, approximate: bool) -> int:
        return self._call("xtrim", lambda: self._drop([place for place in self.entries if place < _parsed(minid)]))

    def xdel(self, name: str, *ids: str) -> int:
        return self._call("xdel", lambda: self._drop([place for place in map(_parsed, ids) if place in self.entries]))

    def hset(self, name: str, field: str | bytes, value: str) -> None:
        field = field.encode() if isinstance(field, str) else field
        self._call("hset", lambda: self.readers.update({field: value.encode()}))

    def hget(self, name: str, field: bytes) -> bytes | None:
        return self._call("hget", lambda: self.readers.get(field))

    def hgetall(self, name: str) -> dict[bytes, bytes]:
        return self._call("hgetall", lambda: dict(self.readers))

    def hdel(self, name: str, field: bytes) -> None:
        self._call("hdel", lambda: self.readers.pop(field, None))

    def time(self) -> tuple[int, int]:
        return self._call("time", lambda: (self._world.ms // 1000, 0))

    def _drop(self, places: list[tuple[int, int]]) -> int:
        for place in places:
            del self.entries[place]
        return len(places)


class _Pipeline:
    def __init__(self, stream: RedisStream) -> None:
        self._stream, self._lines = stream, list[dict[bytes, bytes]]()

    def xadd(self, name: str, fields: dict[bytes, bytes]) -> None:
        self._lines.append(fields)

    def xlen(self, name: str) -> None:
        pass

    def execute(self) -> list[Any]:
        return self._stream.add_all(self._lines)


def _text(place: tuple[int, int]) -> bytes:
    return f"{place[0]}-{place[1]}".encode()


def _parsed(text: str) -> tuple[int, int]:
    ms, _, number = text.partition("-")
    return int(ms), int(number)
