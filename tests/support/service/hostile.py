"""Hostile requests, each made from its number alone, and a judge of the replies to them.

`case(n)` is the same bytes whenever it is called.
"""

from __future__ import annotations

import json
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

BIG = 100_000_000  # bytes of a body far over the limit
_ROUTES = ("/v1/recommend", "/v1/recommend/batch")
_PATHS = (
    *_ROUTES, "/v1/similar", "/v1/bundle", "/healthz", "/readyz", "/metrics", "/openapi.json", "/", "/admin/reload",
)  # fmt: skip
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
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def valid(rng: Random, path: str) -> dict[str, Any]:
    """Return the fields of a good request for a route."""

    def session() -> list[Any]:
        return [f"sku-{rng.randrange(80)}" for _ in range(rng.randrange(6))]

    shared = {"k": rng.randrange(1, 30), "exclude": session(), "exclude_seen": rng.random() < 0.5}
    if path.endswith("batch"):
        return {"sessions": [session() for _ in range(rng.randrange(1, 5))], **shared}
    return {"session": session(), **shared}


def nested(rng: Random, path: str) -> bytes:
    """Arrays and objects up to 100,000 deep."""
    depth = rng.choice((50, 1000, 20_000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('{"session":[', "]}")))
    inner = rng.choice(("", "1", '"sku-1"', "null")) if opening == "[" else "1"
    deep = opening * depth + inner + closing * depth
    field = "sessions" if path.endswith("batch") else "session"
    return rng.choice((deep, f'{{"{field}": {deep}}}', f'{{"{field}": [], "exclude": {deep}}}')).encode()


_NUMBERS = (
    "0", "-0", "-1", "501", "9" * 18, "9" * 20, "9" * 400, "1" + "0" * 10_000, "-" + "9" * 400, "1e3", "1e400",
    "-1e999", "1e-400", "2.5", "20.0", "0.1e1", "1e99999999999999999999", "01", "+1", "0x10", "1_000", ".5", "5.",
    "1e", "--1", str(2**31), str(2**63), str(2**64), str(-(2**63) - 1),
)  # fmt: skip


def numbers(rng: Random, path: str) -> bytes:
    """Huge, tiny and malformed numbers."""
    number = rng.choice(_NUMBERS)
    field, inner = ("sessions", f"[[{number}]]") if path.endswith("batch") else ("session", f"[{number}]")
    return rng.choice(
        (
            f'{{"{field}": {inner}}}',
            f'{{"{field}": {inner}, "k": {number}}}',
            f'{{"{field}": [], "k": {number}}}',
            f'{{"{field}": [], "exclude": [{number}], "allow": [{number}, "sku-1"]}}',
            number,
        )
    ).encode()


_WRONG = (None, True, 1.5, "text", {"a": 1}, [[["sku-1"]]], [None], [True], [1.5], [{"item": "sku-1"}])


def wrong_types(rng: Random, path: str) -> bytes:
    """A request with one field of the wrong type, one too many or one missing."""
    value: Any = valid(rng, path)
    name = rng.choice(tuple(value))
    value[name] = rng.choice([wrong for wrong in _WRONG if not (name == "exclude_seen" and wrong is True)])
    kind = rng.randrange(6)
    if kind == 0:
        value = rng.choice((None, [], "text", 3, True, [value]))
    elif kind == 1:
        value = {**valid(rng, path), rng.choice(("sesion", "", "__class__", "K", "\x00")): 1}
    elif kind == 2:
        value = {"k": 5}
    return json.dumps(value).encode()


def not_finite(rng: Random, path: str) -> bytes:
    """NaN and infinities, which JSON does not have."""
    number = rng.choice(("NaN", "Infinity", "-Infinity", "nan", "inf", "-NaN"))
    field, inner = ("sessions", f"[[{number}]]") if path.endswith("batch") else ("session", f"[{number}]")
    return rng.choice((f'{{"{field}": {inner}}}', f'{{"{field}": [], "k": {number}}}', number)).encode()


_BAD_UTF8 = (
    b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80", b"\xe2\x28\xa1", b"\xfe\xff", b"\xf0\x9f",
)  # fmt: skip


def not_utf8(rng: Random, path: str) -> bytes:
    """Strings that are not UTF-8."""
    bad = rng.choice(_BAD_UTF8) * rng.choice((1, 1, 300))
    start = b'{"sessions": [["' if path.endswith("batch") else b'{"session": ["'
    end = b'"]]}' if path.endswith("batch") else b'"]}'
    return rng.choice((start + bad + end, start + b"sku-1" + bad + b"x" + end, b'{"' + bad + b'": 1}', bad))


def truncated(rng: Random, path: str) -> bytes:
    """A request that stops early."""
    data = json.dumps(valid(rng, path)).encode()
    return data[: rng.randrange(len(data))]


def duplicates(rng: Random, path: str) -> bytes:
    """Repeated fields."""
    field = "sessions" if path.endswith("batch") else "session"
    fields = [f'"{field}": []', '"k": 3', '"k": 7', f'"{field}": [["sku-1"]]', '"k": "x"', f'"{field}": 1']
    return f"{{{', '.join(rng.choices(fields, k=rng.choice((2, 6, 3000))))}}}".encode()


def flipped(rng: Random, path: str) -> bytes:
    """A request with a few bytes changed, added or removed."""
    data = bytearray(json.dumps(valid(rng, path)).encode())
    for _ in range(rng.randrange(1, 6)):
        offset = rng.randrange(len(data) + 1)
        data[offset : offset + rng.randrange(2)] = bytes([rng.randrange(256)] * rng.randrange(3))
    return bytes(data)


def random_bytes(rng: Random, _: str) -> bytes:
    """Noise."""
    return rng.randbytes(rng.choice((0, 1, 2, 30, 1000, 100_000)))


def long(rng: Random, path: str) -> bytes:
    """Lists and texts over the limits."""
    count = rng.choice((1001, 20_000, 60_000))
    batch = path.endswith("batch")
    start: dict[str, Any] = {"sessions": [["sku-1"]]} if batch else {"session": ["sku-1"]}
    longer: list[dict[str, Any]] = [
        {"sessions": [["sku-1"]] * count} if batch else {"session": ["sku-2"] * count},
        {"sessions": [["sku-2"] * count]} if batch else {"session": ["x" * 10 * count]},
        {**start, "exclude": [f"sku-{n}" for n in range(count)]},
        {**start, "allow": ["y" * 8 * count, "sku-1"]},
        {**start, "z" * count: 1},
    ]
    return json.dumps(rng.choice(longer)).encode()


_STRANGE = (
    "", "\x00", "sku-1\x00", "\ud800", "\udc80x", "\u202e", "\n\r\t", "'; DROP", "../../etc", "%00", "𐍈" * 50,
    "\ufeff",
)  # fmt: skip


def strange_ids(rng: Random, path: str) -> bytes:
    """Ids of control characters, halves of surrogate pairs and the like."""
    session = [rng.choice((*_STRANGE, "sku-3", 7, -(10**15))) for _ in range(rng.randrange(1, 6))]
    value = {"sessions": [session]} if path.endswith("batch") else {"session": session}
    return json.dumps({**value, "exclude": [rng.choice(_STRANGE)]}).encode()


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
    body = json.dumps(valid(rng, path)).encode()
    return Case(number, kind, [request(body, path, rng.choice(_HEADERS))], may_close=True)


def _big(rng: Random, number: int, kind: str) -> Case:
    """A body of 100 MB, with a Content-Length or in chunks."""
    block = rng.choice((b"x", b"[", b" ", b'"sku-1",')) * (1 << 13)
    start = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n" + _JSON.encode()
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


_CHUNKS = (
    b"zz\r\nabc\r\n0\r\n\r\n", b"-5\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffff\r\nabc",
    b"fffffffffffffffffffffff\r\nabc", b"3\r\nabcdef\r\n0\r\n\r\n",
    b"3 ; " + b"x" * 100_000 + b"\r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"\r\n\r\n", b"3\r\nabc",
    b"0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"0\r\n" + b"T: v\r\n" * 20_000 + b"\r\n", b"1\r\n{\r\n" * 3000,
    b"0x3\r\nabc\r\n0\r\n\r\n",
)  # fmt: skip


def _chunked(rng: Random, number: int, kind: str) -> Case:
    start = (
        f"POST {rng.choice(_ROUTES)} HTTP/1.1\r\nHost: localhost\r\n{_JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    return Case(number, kind, [start + rng.choice(_CHUNKS)], whole=False)


_LENGTHS = (
    "Content-Length: -1", "Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 6", "Content-Length: abc",
    "Content-Length: 99999999999999999999999", "Content-Length: 0x10",
    "Content-Length: 5\r\nTransfer-Encoding: chunked", "Content-Length: 1000", "Content-Length:", "Content-Length: 3",
    "Content-Length: +5", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked", "Transfer-Encoding : chunked",
)  # fmt: skip


def _lying_lengths(rng: Random, number: int, kind: str) -> Case:
    path = rng.choice(_ROUTES)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{_JSON}{rng.choice(_LENGTHS)}\r\n\r\n".encode()
    return Case(number, kind, [head + json.dumps(valid(rng, path)).encode()], whole=False)


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
        yield b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
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
    data = request(json.dumps(valid(rng, path)).encode(), path)
    return Case(number, kind, [data[: rng.choice((0, 10, len(data) - 5, len(data)))]], whole=False, vanishes=True)


_KINDS: dict[str, tuple[Callable[[Random, int, str], Case], float]] = {
    "deep nesting": (_body(nested, True), 6),
    "numbers": (_body(numbers, False), 8),
    "wrong types": (_body(wrong_types, True), 10),
    "not finite": (_body(not_finite, True), 4),
    "not UTF-8": (_body(not_utf8, True), 6),
    "truncated": (_body(truncated, True), 8),
    "duplicate keys": (_body(duplicates, False), 4),
    "flipped bytes": (_body(flipped, False), 10),
    "random bytes": (_body(random_bytes, True), 4),
    "long": (_body(long, False), 3),
    "strange ids": (_body(strange_ids, False), 6),
    "odd headers": (_odd_headers, 4),
    "100 MB": (_big, 0.3),
    "chunked garbage": (_chunked, 6),
    "lying lengths": (_lying_lengths, 5),
    "header floods": (_header_flood, 3),
    "bad methods": (_bad_method, 4),
    "bad targets": (_bad_target, 6),
    "no HTTP": (_no_http, 4),
    "vanishing": (_vanishing, 4),
}
PATIENCE = 30.0  # seconds for an answer or the end of the connection; machines are busy
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """status: of the final response; 0 if the connection closed without one, -1 if neither came in time."""

    status: int
    body: bytes = b""


def judged(one: Case, reply: Reply) -> str | None:
    """Return None, or what is wrong with this reply to this case."""
    if one.vanishes:
        return None
    if reply.status < 0:
        return f"neither an answer nor the end of the connection in {PATIENCE:g} s"
    if reply.status == 0:
        return "no answer to a whole request" if one.whole and not one.may_close else None
    if reply.status >= 500 and reply.status != 503 and b"transfer coding" not in reply.body:
        return f"status {reply.status}: {reply.body[:200]!r}"
    if one.accepted and reply.status != 200:
        return f"status {reply.status} instead of 200: {reply.body[:200]!r}"
    if one.refused and not 400 <= reply.status < 500:
        return f"status {reply.status} instead of a client error (4xx)"
    if one.whole and not one.may_close and reply.status >= 400:
        return _error_body(reply.body)
    return None


def _error_body(body: bytes) -> str | None:
    """Return None, or why this is not an error of the service: a code, and a message of one short line."""
    try:
        error = json.loads(body)["error"]
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        return f"an error that is not in the service's form: {body[:200]!r}"
    if not code.replace("_", "").isalpha() or not message or len(message) > 1000 or not message.isprintable():
        return f"an error without one short line: {body[:300]!r}"
    return None


def cycle(address: tuple[str, int], one: Case) -> Reply:
    """Send a case and read the reply; like clients, stop sending once an answer arrives."""
    deadline = time.monotonic() + PATIENCE
    with socket.create_connection(address, timeout=PATIENCE) as link:
        link.setblocking(False)
        if one.vanishes:
            with suppress(OSError):
                link.send(b"".join(one.pieces))
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            return Reply(0)
        received = _send(link, one.pieces, deadline)
        if received is None:
            return Reply(0)
        if not one.whole and not received:
            with suppress(OSError):
                link.shutdown(socket.SHUT_WR)
        return _receive(link, received, one.head_only, deadline)


def _send(link: socket.socket, pieces: Iterable[bytes], deadline: float) -> bytes | None:
    """Send until an answer comes; return its first bytes, None if the connection broke."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            ready = wait_ready(link, select.POLLIN | select.POLLOUT, deadline - time.monotonic())
            try:
                if ready & ~select.POLLOUT:
                    return link.recv(1 << 16) or None
                if not ready:
                    return b""
                view = view[link.send(view) :]
            except BlockingIOError:
                continue
            except OSError:
                return None
    return b""


def wait_ready(link: socket.socket, events: int, seconds: float) -> int:
    """Wait for events, an error or the end of the connection; return them, 0 if none came within `seconds`."""
    poll = select.poll()  # select.select takes no descriptor above 1023, which many clients need
    poll.register(link, events)
    return next((flags for _, flags in poll.poll(max(0.0, seconds) * 1000)), 0)


def _receive(link: socket.socket, received: bytes, head_only: bool, deadline: float) -> Reply:
    """Read one final response, or to the end of the connection."""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        match = STATUS.match(head)
        if end and match:
            if match[1].startswith(b"1") and match[1] != b"101":
                received = body
                continue
            length = _LENGTH.search(head)
            if head_only or length is None or len(body) >= int(length[1]):
                return Reply(int(match[1]), body)
        if not wait_ready(link, select.POLLIN, deadline - time.monotonic()):
            return Reply(-1)
        try:
            chunk = link.recv(1 << 16)
        except BlockingIOError:
            continue
        except OSError:
            chunk = b""
        if not chunk:
            return Reply(int(match[1]), body) if match and end else Reply(0)
        received += chunk
