"""Bodies that are invalid JSON or invalid requests, made from a random generator and a route."""

from __future__ import annotations

import json
from random import Random
from typing import Any


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
