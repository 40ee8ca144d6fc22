"""What a service tells the memory: clicks, sessions to forget, items added and removed, each as one line of JSON.

{"id": "e-1", "session": "s-1", "item": "sku-9", "time": 1764150000000, "type": "view"}
{"forget": "s-1", "time": ..}
{"add": ["sku-new"], "neighbors": [["sku-9", "sku-4"]], "time": ..}      or "vectors": [[..], ..]
{"remove": ["sku-7"], "time": ..}
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtaw_fast.errors import DataError, shown

MOST_TEXT = 512  # characters of an id
_INT64 = 2**63
_HUGE = 2.0**128  # numbers of a vector are kept as float32
EARLIEST, LATEST = 0, 4_102_444_800_000  # 1970 .. 2100: what lies outside is no time in milliseconds


@dataclass(frozen=True, slots=True)
class Click:
    """One click of one session.

    Attributes
    ----------
    session : str
        The session's id, chosen by the client.
    item : int | str
        External id; one that the catalog does not know enters it.
    time : int
        Unix time in milliseconds.
    type : str | None
        What kind of event it was ("view", "cart", ..).
    id : str | None
        The event's own id: an event that comes twice with one id counts once.
    """

    session: str
    item: int | str
    time: int
    type: str | None = None
    id: str | None = None

    def line(self) -> bytes:
        """The event as one line of JSON, without its end."""
        value: dict[str, Any] = {"session": self.session, "item": self.item, "time": self.time}
        if self.type is not None:
            value["type"] = self.type
        if self.id is not None:
            value["id"] = self.id
        return _encoded(value)


@dataclass(frozen=True, slots=True)
class Forget:
    """Everything that a session taught is to be taken out again. session: its id. time: Unix milliseconds."""

    session: str
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"forget": self.session, "time": self.time})


@dataclass(frozen=True, slots=True)
class AddItems:
    """Items for the catalog, with either neighbors (ids of known items, for each) or vectors (d numbers each)."""

    items: tuple[int | str, ...]
    neighbors: tuple[tuple[int | str, ...], ...] | None
    vectors: tuple[tuple[float, ...], ...] | None
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        value: dict[str, Any] = {"add": self.items, "time": self.time}
        if self.neighbors is not None:
            value["neighbors"] = self.neighbors
        if self.vectors is not None:
            value["vectors"] = self.vectors
        return _encoded(value)


@dataclass(frozen=True, slots=True)
class RemoveItems:
    """Items that shall not be recommended any more."""

    items: tuple[int | str, ...]
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"remove": self.items, "time": self.time})


Event = Click | Forget | AddItems | RemoveItems


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


def checked_click(
    session: Any, item: Any, at: Any = None, kind: Any = None, identity: Any = None, *, where: str = "event"
) -> Click:
    """A click from values that nobody has looked at yet.

    Parameters
    ----------
    session, item, at, kind, identity
        As the fields of `Click`; `at` is now where it is None.
    where : str
        Names the event in an error.

    Raises
    ------
    DataError
        Where a value has the wrong type, is empty, too long, or no time in milliseconds.
    """
    if item is None or isinstance(item, bool) or not isinstance(item, (int, str)):
        item = _whole(item)
    if item is None or (isinstance(item, int) and not -_INT64 <= item < _INT64) or (item == ""):
        raise DataError(f"{where}: item must be a whole number of 64 bits or a text; give the item's external id")
    if isinstance(item, str) and len(item) > MOST_TEXT:
        raise DataError(f"{where}: item has {len(item)} characters; at most {MOST_TEXT}")
    at = now_ms() if at is None else at
    if isinstance(at, bool) or not isinstance(at, int) or not EARLIEST <= at <= LATEST:
        raise DataError(f"{where}: time {shown(at)} must be Unix milliseconds, a whole number from 1970 to 2100")
    return Click(
        _text("session", session, where),
        item,
        at,
        None if kind is None else _text("type", kind, where),
        None if identity is None else _text("id", identity, where),
    )


def is_id(item: Any) -> bool:
    """Whether a catalog can hold it: a whole number of 64 bits, or a text of 1 to `MOST_TEXT` characters."""
    if type(item) is int:
        return -_INT64 <= item < _INT64
    return type(item) is str and 0 < len(item) <= MOST_TEXT


def forget_of(session: Any, at: int) -> Forget:
    """What takes a session out again; DataError where `session` is no id of one."""
    return Forget(_text("session", session, "forget"), at)


def parse(line: bytes) -> Event | None:
    """The event of a line that `line()` made; None where it is of a kind that this release does not know.

    Raises
    ------
    ValueError, KeyError, TypeError
        Where the line is no event.
    """
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict) or type(value["time"]) is not int or not EARLIEST <= value["time"] <= LATEST:
        raise ValueError("it is no event with a time")
    time = value["time"]
    if "session" in value:
        session, item = _is_text(value["session"], "session"), _are_items([value["item"]], "item")[0]
        kind, identity = value.get("type"), value.get("id")
        if kind is not None:
            _is_text(kind, "type")
        if identity is not None:
            _is_text(identity, "id")
        return Click(session, item, time, kind, identity)
    if "forget" in value:
        return Forget(_is_text(value["forget"], "forget"), time)
    if "add" in value:
        items = _are_items(value["add"], "add")
        named = "neighbors" if "neighbors" in value else "neighbours"  # as logs of release 0.2 have it
        near, vectors = _rows(value, named, len(items)), _rows(value, "vectors", len(items))
        return AddItems(
            items,
            None if near is None else tuple(_are_items(row, "neighbors") for row in near),
            None if vectors is None else tuple(_are_numbers(row, "vectors") for row in vectors),
            time,
        )
    if "remove" in value:
        return RemoveItems(_are_items(value["remove"], "remove"), time)
    return None


# What a reader learns from must have the right types here: further on a wrong one would end the learning, not a record.


def _is_text(value: Any, name: str) -> str:
    if type(value) is not str:
        raise ValueError(f"its {name} is no text")
    return value


def _are_items(values: Any, name: str) -> tuple[int | str, ...]:
    if type(values) is not list or not all(
        type(one) is str or (type(one) is int and -_INT64 <= one < _INT64) for one in values
    ):
        raise ValueError(f"its {name} holds what is no id of an item")
    return tuple(values)


def _are_numbers(values: Any, name: str) -> tuple[float, ...]:
    if type(values) is not list or not all(type(one) in (int, float) and abs(one) < _HUGE for one in values):
        raise ValueError(f"its {name} hold what is no number")
    return tuple(values)


def _rows(value: Mapping[str, Any], name: str, count: int) -> list[Any] | None:
    rows = value.get(name)
    if rows is not None and (type(rows) is not list or len(rows) != count):
        raise ValueError(f"its {name} are not one list for each of {count} items")
    return rows


def _text(name: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {name} must be a text that is not empty, not {shown(value)}")
    if len(value) > MOST_TEXT:
        raise DataError(f"{where}: {name} has {len(value)} characters; at most {MOST_TEXT}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: {name} is no valid Unicode text; send UTF-8") from None
    return value


def _whole(value: Any) -> int | None:
    """A numpy integer as a plain one."""
    try:
        return None if isinstance(value, bool) else value.__index__()
    except AttributeError:
        return None


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
