"""Hostile requests, each made from its number alone: `case(n)` is the same bytes whenever it is called."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from mtaw_fast.service.ranking_ids import key_of, new_id, use_key
from tests.support.service import hostile_bodies

BIG = 100_000_000  # bytes of a body far over the limit
_ROUTES = ("/v1/recommend", "/v1/recommend/batch")
_PATHS = (
    *_ROUTES, "/v1/similar", "/v1/bundle", "/healthz", "/readyz", "/metrics", "/openapi.json", "/", "/admin/reload",
)  # fmt: skip
TOKEN = "siege"  # of the attacked service; some hostile requests carry it
_JSON = "Content-Type: application/json\r\n"


@dataclass(frozen=True)
class Case:
    """What to send on one connection, and what may come back.

    pieces: bytes, made as they are sent. whole: whether it is a complete request; after an incomplete one, the
    client half-closes, and the service may close the connection. may_close: it may close it after a complete one, too.
    refused: the answer must be a 4xx. accepted: it must be 200. vanishes: the client closes with a reset once it has
    sent. head_only: the answer has no body, whatever its length says.
    """

    number: int
    kind: str
    pieces: Iterable[bytes]
    whole: bool = True
    may_close: bool = False
    refused: bool = False
    accepted: bool = False
    vanishes: bool = False
    head_only: bool = False


def case(number: int) -> Case:
    """Return the case of this number."""
    rng = Random(number)
    kind = rng.choices(tuple(_KINDS), tuple(weight for _, weight in _KINDS.values()))[0]
    return _KINDS[kind][0](rng, number, kind)


def request(body: bytes, path: str = "/v1/recommend", headers: str = _JSON, method: str = "POST") -> bytes:
    """Return a whole HTTP/1.1 request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: shop\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def _body(make: Callable[[Random, str], bytes], refused: bool) -> Callable[[Random, int, str], Case]:
    """Return a maker of cases with valid HTTP and an invalid body. make(rng, path): the body."""

    def made(rng: Random, number: int, kind: str) -> Case:
        path = rng.choice(_ROUTES)
        return Case(number, kind, [request(make(rng, path), path)], refused=refused)

    return made


_HEADERS = (
    "Content-Type: text/plain\r\n", "", "Content-Type: application/json; charset=utf-16\r\n",
    "Content-Type: multipart/form-data\r\n", "Content-Encoding: gzip\r\n" + _JSON,
    "Content-Encoding: nonsense\r\n" + _JSON, "Expect: 100-continue\r\n" + _JSON,
    "Expect: the unexpected\r\n" + _JSON, "Accept: image/png\r\n" + _JSON,
    "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n" + _JSON,
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n" + _JSON,
    "Range: bytes=0-18446744073709551615\r\n" + _JSON, "Authorization: Bearer \xff\xfe\r\n" + _JSON,
)  # fmt: skip


def _odd_headers(rng: Random, number: int, kind: str) -> Case:
    path = rng.choice(_ROUTES)
    body = json.dumps(hostile_bodies.valid(rng, path)).encode()
    return Case(number, kind, [request(body, path, rng.choice(_HEADERS))], may_close=True)


def _big(rng: Random, number: int, kind: str) -> Case:
    """A body of 100 MB, with a Content-Length or in chunks."""
    block = rng.choice((b"x", b"[", b" ", b'"sku-1",')) * (1 << 13)
    start = b"POST /v1/recommend HTTP/1.1\r\nHost: shop\r\n" + _JSON.encode()
    count = BIG // len(block)

    def announced() -> Iterator[bytes]:
        yield start + b"Content-Length: %d\r\n\r\n" % (count * len(block))
        for _ in range(count):
            yield block

    def chunked() -> Iterator[bytes]:
        yield start + b"Transfer-Encoding: chunked\r\n\r\n"
        for _ in range(count):
            yield b"%x\r\n%b\r\n" % (len(block), block)
        yield b"0\r\n\r\n"

    return Case(number, kind, (announced if rng.random() < 0.5 else chunked)(), refused=True)


_UPGRADES = (
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: TLS/1.3\r\nUpgrade: nonsense\r\n", "Upgrade: h2c\r\n",
)  # fmt: skip
_CHUNKS = (
    b"zz\r\nabc\r\n0\r\n\r\n", b"-5\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffff\r\nabc",
    b"fffffffffffffffffffffff\r\nabc", b"3\r\nabcdef\r\n0\r\n\r\n",
    b"3 ; " + b"x" * 100_000 + b"\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"\r\n\r\n", b"3\r\nabc",
    b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"0\r\n" + b"T: v\r\n" * 20_000 + b"\r\n", b"1\r\n{\r\n" * 3000,
    b"0x3\r\nabc\r\n0\r\n\r\n",
)  # fmt: skip


def _chunked(rng: Random, number: int, kind: str) -> Case:
    start = f"POST {rng.choice(_ROUTES)} HTTP/1.1\r\nHost: shop\r\n{_JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    return Case(number, kind, [start + rng.choice(_CHUNKS)], whole=False)


_LENGTHS = (
    "Content-Length: -1", "Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: abc",
    "Content-Length: 99999999999999999999999", "Content-Length: 0x10",
    "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 1000", "Content-Length:", "Content-Length: 3",
    "Content-Length: +5", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked", "Transfer-Encoding : chunked",
)  # fmt: skip


def _trailers(rng: Random, number: int, kind: str) -> Case:
    """A good request in chunks with trailers: a few, which are allowed, or far too many."""
    path = rng.choice(_ROUTES)
    body = json.dumps(hostile_bodies.valid(rng, path)).encode()
    start = f"POST {path} HTTP/1.1\r\nHost: shop\r\n{_JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    message = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    if rng.random() < 0.5:
        trailer = rng.choice((b"Authorization: Bearer x", b"X: y", b"Host: elsewhere\r\nX-Forwarded-For: 1.2.3.4"))
        return Case(number, kind, [start, message, trailer + b"\r\n\r\n"], accepted=True)
    if rng.random() < 0.3:
        trailer = rng.choice((b"Content-Length: 7", b"Transfer-Encoding: chunked"))
        return Case(number, kind, [start, message, trailer + b"\r\n\r\n"], may_close=True, refused=True)
    flood = rng.choice((b"T: v\r\n" * 500, b"Long: " + b"v" * 4000 + b"\r\n", b"v" * 4000))
    return Case(number, kind, [start, message, b"T: ", *([flood] * 200), b"\r\n\r\n"], may_close=True, refused=True)


def _upgrades(rng: Random, number: int, kind: str) -> Case:
    """A good or bad request that asks for an upgrade of the protocol."""
    path = rng.choice(_ROUTES)
    good = rng.random() < 0.7
    hidden = b"GET /metrics HTTP/1.1\r\nHost: shop\r\n\r\n"
    body = json.dumps(hostile_bodies.valid(rng, path)).encode() if good else hidden
    data = request(body, path, rng.choice(_UPGRADES) + _JSON)
    cut = rng.choice((len(data), len(data) - len(body), len(data) - len(body) - 2, 30))
    return Case(number, kind, [data[:cut], data[cut:]], accepted=good, refused=not good)


def _lying_lengths(rng: Random, number: int, kind: str) -> Case:
    path = rng.choice(_ROUTES)
    head = f"POST {path} HTTP/1.1\r\nHost: shop\r\n{_JSON}{rng.choice(_LENGTHS)}\r\n\r\n".encode()
    return Case(number, kind, [head + json.dumps(hostile_bodies.valid(rng, path)).encode()], whole=False)


def _header_flood(rng: Random, number: int, kind: str) -> Case:
    floods: tuple[Callable[[], Iterable[bytes]], ...] = (
        lambda: (b"".join(b"X-%d: y\r\n" % n for n in range(10_000)),),
        lambda: (b"X: " + b"y" * 1_000_000 + b"\r\n",),
        lambda: (b"y" * 100_000 + b": x\r\n",),
        lambda: (b"X: y\r\n" * 1000 for _ in range(200)),
        lambda: (b"no colon here\r\n", b": no name\r\n", b" folded\r\n"),
        lambda: (b"X: a\x00b\r\n", b"\x00: x\r\n", b"X\x80: y\r\n", rng.randbytes(200) + b"\r\n"),
        lambda: (b"Cookie: " + b"a=b; " * 50_000 + b"\r\n",),
        lambda: (b"Host: other\r\n",) * 3,
    )
    flood = rng.choice(floods)

    def pieces() -> Iterator[bytes]:
        yield b"GET /healthz HTTP/1.1\r\nHost: shop\r\n"
        yield from flood()
        yield b"\r\n"

    return Case(number, kind, pieces(), may_close=True)


_METHODS = (
    "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "HEAD", "CONNECT", "get", "POSTT", "G" * 10_000, "G\x00T", "",
    "PRI",
)  # fmt: skip


def _bad_method(rng: Random, number: int, kind: str) -> Case:
    path, method = rng.choice(_PATHS), rng.choice(_METHODS)
    return Case(number, kind, [request(b"", path, "", method)], may_close=True, head_only=method == "HEAD")


_TARGETS = (
    "/v1/similar", "/v1/similar?item=", "/v1/similar?item=sku-1&item=sku-2", "/v1/similar?item=sku-1&k=0",
    "/v1/similar?item=sku-1&k=" + "9" * 500, "/v1/similar?item=sku-1&k=NaN", "/v1/similar?item=%ff%fe",
    "/v1/similar?item=%00", "/v1/similar?item=%", "/v1/similar?item=%zz", "/v1/similar?item=" + "a" * 60_000,
    "/v1/similar?" + "a&" * 20_000, "/v1/similar?item=sku-1&" + "k=1&" * 10_000, "/%2e%2e/%2e%2e/etc/passwd",
    "/../../etc/passwd", "//etc//passwd", "/v1/sessions/x/click", "/v1/sessions/%00/click", "/v1/recommend/",
    "/v1/recommend?x=%ff", "/v1/similar?item=sku-1&by=" + "x" * 1000, "/v1/similar?item=sku-1&by=sessions",
    "/v1/similar?item=sku-1&" + "exclude=a&" * 2500, "/v1/similar?item=sku-1&allow=&exclude=%ff",
    "/v1/similar?item=sku-1&session_id=" + "s" * 20_000, "/v1/items", "/v1/items?search=", "/v1/items?search=%ff",
    "/v1/items?search=" + "%00" * 9000, "/v1/items?search=.*%5B&k=501", "/v1/items?search=a&search=b",
    "/v1/sessions/%00",
    "/V1/RECOMMEND", "*", "http://elsewhere/healthz", "healthz", "/" + "a" * 100_000,
    "/\xff\xfe", "/metrics/../admin/reload", "/admin/reload", "/static/..%2f..%2fetc", "/docs", "/?" + "%" * 1000,
)  # fmt: skip


def _bad_target(rng: Random, number: int, kind: str) -> Case:
    return Case(number, kind, [request(b"", rng.choice(_TARGETS), "", rng.choice(("GET", "POST")))], may_close=True)


_NO_HTTP = (
    b"GET /healthz\r\n", b"GET /healthz HTTP/9.9\r\n\r\n", b"GET /healthz HTTP/1.1\n\n", b"\r\n" * 50_000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n", b"\x00" * 1000,
    b"GET /healthz HTTP/1.0\r\n\r\n", b"SSH-2.0-OpenSSH_9.0\r\n", b"*1\r\n$4\r\nPING\r\n", b"",
)  # fmt: skip


def _no_http(rng: Random, number: int, kind: str) -> Case:
    data = rng.choice((*_NO_HTTP, rng.randbytes(rng.choice((1, 20, 5000)))))
    return Case(number, kind, [data], whole=False)


def _vanishing(rng: Random, number: int, kind: str) -> Case:
    """A client that closes in the middle of its request, or right after it."""
    path = rng.choice(_ROUTES)
    data = request(json.dumps(hostile_bodies.valid(rng, path)).encode(), path)
    return Case(number, kind, [data[: rng.choice((0, 10, len(data) - 5, len(data)))]], whole=False, vanishes=True)


def _pipelined(rng: Random, number: int, kind: str) -> Case:
    """Many requests at once, of which only the first answer is read before the client goes."""
    data = b"".join(
        request(hostile_bodies.truncated(rng, _ROUTES[0]), _ROUTES[0]) for _ in range(rng.choice((2, 50, 1000)))
    )
    return Case(number, kind, [data], whole=False)


_OTHER_ROUTES = (
    "/v1/feedback", "/v1/feedback", "/v1/sessions/one/click", "/v1/sessions/one/click", "/admin/items/add",
    "/admin/items/remove", "/admin/reload",
)  # fmt: skip
KEY = "of the ids of rankings"
use_key(key_of(KEY))
_ID = new_id("0123456789abcdef")
_BROKEN_VALUES = (
    None, True, 1.5, -(2**70), "", "\u0000", "x" * 2000, [], [[]], [None], [1.5], ["a"] * 3000, {}, {"a": {"b": []}},
    _ID + "\n", _ID.upper(), "\ud800", [["\udfff"]],
)  # fmt: skip
_FIELDS = (
    "recommendation",
    "shown",
    "clicked",
    "bought",
    "items",
    "neighbors",
    "vectors",
    "session_id",
    "reasons",
    "k",
)


def _other_routes(rng: Random, number: int, kind: str) -> Case:
    """Broken bodies for the other routes: a wrong value, an extra field, or a wrong byte."""
    path = rng.choice(_OTHER_ROUTES)
    fields: dict[str, object] = {"recommendation": _ID, "shown": ["sku-1"]} if "feedback" in path else {"items": ["x"]}
    for name in rng.sample(_FIELDS, rng.choice((1, 2, 4))):
        fields[name] = rng.choice(_BROKEN_VALUES)
    body = bytearray(json.dumps(fields).encode())
    if rng.random() < 0.3:
        body[rng.randrange(len(body))] = rng.randrange(256)
    headers = rng.choice(
        (
            _JSON,
            _JSON,
            "",
            "Authorization: Bearer \xff\r\n" + _JSON,
            "Origin: null\r\n" + _JSON,
            f"Authorization: Bearer {TOKEN}\r\n{_JSON}",
        )
    )
    return Case(number, kind, [request(bytes(body), path, headers)])


_PREFLIGHTS = (
    "Origin: https://shop.example\r\nAccess-Control-Request-Method: POST\r\n",
    "Origin: https://shop.example\r\nAccess-Control-Request-Method: \r\n", "Origin: \xff\xfe\r\n",
    "Origin: https://shop.example\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n",
    "Origin: " + "x" * 20_000 + "\r\nAccess-Control-Request-Method: POST\r\n",
)  # fmt: skip


def _preflights(rng: Random, number: int, kind: str) -> Case:
    path = rng.choice((*_ROUTES, "/v1/feedback", "/v1/nope", "/admin/items/add"))
    return Case(number, kind, [request(b"", path, rng.choice(_PREFLIGHTS), "OPTIONS")], may_close=True)


_KINDS: dict[str, tuple[Callable[[Random, int, str], Case], float]] = {
    "deep nesting": (_body(hostile_bodies.nested, True), 6),
    "numbers": (_body(hostile_bodies.numbers, False), 8),
    "wrong types": (_body(hostile_bodies.wrong_types, True), 10),
    "not finite": (_body(hostile_bodies.not_finite, True), 4),
    "not UTF-8": (_body(hostile_bodies.not_utf8, True), 6),
    "truncated": (_body(hostile_bodies.truncated, True), 8),
    "duplicate keys": (_body(hostile_bodies.duplicates, False), 4),
    "flipped bytes": (_body(hostile_bodies.flipped, False), 10),
    "random bytes": (_body(hostile_bodies.random_bytes, True), 4),
    "long": (_body(hostile_bodies.long, False), 3),
    "strange ids": (_body(hostile_bodies.strange_ids, False), 6),
    "odd headers": (_odd_headers, 4),
    "100 MB": (_big, 0.3),
    "chunked garbage": (_chunked, 6),
    "trailers": (_trailers, 4),
    "upgrades": (_upgrades, 4),
    "lying lengths": (_lying_lengths, 5),
    "header floods": (_header_flood, 3),
    "bad methods": (_bad_method, 4),
    "bad targets": (_bad_target, 6),
    "no HTTP": (_no_http, 4),
    "other routes": (_other_routes, 8),
    "preflights": (_preflights, 2),
    "vanishing": (_vanishing, 4),
    "pipelined": (_pipelined, 2),
}
