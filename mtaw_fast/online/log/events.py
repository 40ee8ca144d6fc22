"""The events of a log: clicks, sessions to forget, items added and removed. Each is one line of JSON.

{"id": "e-1", "session": "s-1", "item": "sku-9", "time": 1764150000000, "type": "view", "arrived": 1764150000007,
 "context": {"referrer": "search"}}      with "trusted": true, or "refused": "origin" and nothing is learned from it
{"forget": "s-1", "time": ..}
{"add": ["sku-new"], "neighbors": [["sku-9", "sku-4"]], "time": ..}      or "vectors": [[..], ..]
{"remove": ["sku-7"], "time": ..}
{"hide": ["sku-7"], "time": ..}      and "show"
{"placement": "cart", "is": {"sets": [..]}, "time": ..}      null removes it; or all "revisions": [[1, TIME, {..}], ..]
{"displays": ["sku-new"], "counts": [12], "time": ..}      how often a process has shown new items since it said so last
{"clock": "confirmed", "time": ..}      an operator says that the newest clicks arrived when they say
{"table": "2f1c..", "part": 0, "of": 2, "data": "<base64>", "time": ..}     a change of the item table, in parts
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, ClassVar, NamedTuple

from mtaw_fast.items.placements import Revision
from mtaw_fast.system import host

MAX_TEXT_LENGTH = 512  # characters of an id
INT64 = 2**63  # from here on an integer takes more than 64 bits
_MAX_COUNT = 2**31
_HUGE = 2.0**128  # a vector is stored as float32, which ends here
_ENCODER, _DECODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False), json.JSONDecoder()
EARLIEST, LATEST = 0, 4_102_444_800_000  # 1970 .. 2100: any other number is not a time in milliseconds


class Click(NamedTuple):
    """One click of one session.

    session: its id, chosen by the client. item: an external id; an unknown item enters the catalog. time: in Unix
    milliseconds. type: the kind of event ("view", "cart", ..). id: the event's own; two events of a session with one id
    count once. arrived: when a service received it, by that host's clock; None in a log file. context: what is known of
    the visit, by column (`data.context`). trusted: whether its time and number are believed: its sender had a token, or
    is the program itself. refused: the rule that refused it when it arrived (`online.origin_guard`).
    """

    session: str
    item: int | str
    time: int
    type: str | None = None
    id: str | None = None
    arrived: int | None = None
    context: Mapping[str, str] | None = None
    trusted: bool = False
    refused: str | None = None

    def line(self) -> bytes:
        """Return the event as one line of JSON, without a newline."""
        quoted = encode_basestring  # a third of the time that an encoder takes
        item = quoted(self.item) if isinstance(self.item, str) else self.item
        text = f'{{"session":{quoted(self.session)},"item":{item},"time":{self.time}'
        if self.type is not None:
            text += f',"type":{quoted(self.type)}'
        if self.id is not None:
            text += f',"id":{quoted(self.id)}'
        if self.arrived is not None:
            text += f',"arrived":{self.arrived}'
        if self.context:
            text += f',"context":{_ENCODER.encode(dict(self.context))}'
        if self.trusted:
            text += ',"trusted":true'
        if self.refused is not None:
            text += f',"refused":{quoted(self.refused)}'
        return f"{text}}}".encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Forget:
    """A request to remove everything learned from a session. session: its id. time: Unix milliseconds."""

    session: str
    time: int

    def line(self) -> bytes:
        return _encoded({"forget": self.session, "time": self.time})


@dataclass(frozen=True, slots=True)
class AddItems:
    """Items for the catalog, each with either neighbors (ids of known items) or a vector (d numbers)."""

    items: tuple[int | str, ...]
    neighbors: tuple[tuple[int | str, ...], ...] | None
    vectors: tuple[tuple[float, ...], ...] | None
    time: int

    def line(self) -> bytes:
        value: dict[str, Any] = {"add": self.items, "time": self.time}
        if self.neighbors is not None:
            value["neighbors"] = self.neighbors
        if self.vectors is not None:
            value["vectors"] = self.vectors
        return _encoded(value)


@dataclass(frozen=True, slots=True)
class _Items:
    items: tuple[int | str, ...]
    time: int
    key: ClassVar[str]

    def line(self) -> bytes:
        return _encoded({self.key: self.items, "time": self.time})


class RemoveItems(_Items):
    """Items that must not be recommended any more."""

    __slots__ = ()
    key = "remove"


class HideItems(_Items):
    """Items that must not be recommended until they are shown again; the catalog need not know them."""

    __slots__ = ()
    key = "hide"


class ShowItems(_Items):
    """Items that may be recommended again."""

    __slots__ = ()
    key = "show"


@dataclass(frozen=True, slots=True)
class ConfirmClock:
    """An operator's word that the hosts' clocks are right, after a jump of the arrivals (`state.log_clock`)."""

    time: int

    def line(self) -> bytes:
        return _encoded({"clock": "confirmed", "time": self.time})


@dataclass(frozen=True, slots=True)
class TablePart:
    """A part of a change of the item table, which takes effect with its last part.

    table: names the change. part, of: the number of the part, from 0, and of all parts. data: of `TableChange.packed`.
    """

    table: str
    part: int
    of: int
    data: bytes
    time: int

    def line(self) -> bytes:
        text = base64.b64encode(self.data).decode()
        return _encoded({"table": self.table, "part": self.part, "of": self.of, "data": text, "time": self.time})


@dataclass(frozen=True, slots=True)
class SetPlacement:
    """The rule sets of a placement from now on; None removes it. revisions: instead, its whole history."""

    name: str
    content: Mapping[str, Any] | None
    time: int
    revisions: tuple[Revision, ...] | None = None

    def line(self) -> bytes:
        what = {"is": self.content} if self.revisions is None else {"revisions": self.revisions}
        return _encoded({"placement": self.name, **what, "time": self.time})


@dataclass(frozen=True, slots=True)
class Displays:
    """How often one process has shown new items since its last such event. counts: one for each item."""

    items: tuple[int | str, ...]
    counts: tuple[int, ...]
    time: int

    def line(self) -> bytes:
        return _encoded({"displays": self.items, "counts": self.counts, "time": self.time})


Event = (
    Click | Forget | AddItems | RemoveItems | HideItems | ShowItems | TablePart | SetPlacement | ConfirmClock | Displays
)


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return host.time_ns() // 1_000_000


def is_id(item: Any) -> bool:
    """Return whether a catalog can hold an id: a 64-bit integer, or a string of 1 to `MAX_TEXT_LENGTH` characters."""
    if type(item) is int:
        return -INT64 <= item < INT64
    return type(item) is str and 0 < len(item) <= MAX_TEXT_LENGTH


def parse(line: bytes) -> Event | None:
    """Return the event of a line that `line()` made, or None if this release does not know its kind.

    Raises ValueError, KeyError or TypeError if the line is not an event.
    """
    try:
        text = line.decode("utf-8", "surrogatepass")
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise ValueError("something follows the event")
    except RecursionError:
        raise ValueError("its nesting is too deep") from None
    if not isinstance(value, dict) or type(value["time"]) is not int or not EARLIEST <= value["time"] <= LATEST:
        raise ValueError("it is not an event with a time")
    time = value["time"]
    if "session" in value:
        session, item = _is_text(value["session"], "session"), value["item"]
        if type(item) is not str and not (type(item) is int and -INT64 <= item < INT64):
            raise ValueError("its item is not an item id")
        kind, identity = value.get("type"), value.get("id")
        if kind is not None:
            _is_text(kind, "type")
        if identity is not None:
            _is_text(identity, "id")
        arrived = value.get("arrived")
        if arrived is not None and (type(arrived) is not int or not EARLIEST <= arrived <= LATEST):
            raise ValueError("its arrival is not a time")
        trusted, refused = value.get("trusted", False), value.get("refused")
        if type(trusted) is not bool:
            raise ValueError("its trusted is neither true nor false")
        if refused is not None:
            _is_text(refused, "refused")
        return Click(session, item, time, kind, identity, arrived, _is_context(value.get("context")), trusted, refused)
    if "forget" in value:
        return Forget(_is_text(value["forget"], "forget"), time)
    if "add" in value:
        items = _are_items(value["add"], "add")
        neighbors, vectors = _rows(value, "neighbors", len(items)), _rows(value, "vectors", len(items))
        return AddItems(
            items,
            None if neighbors is None else tuple(_are_items(row, "neighbors") for row in neighbors),
            None if vectors is None else tuple(_are_numbers(row, "vectors") for row in vectors),
            time,
        )
    for kind_of_items in (RemoveItems, HideItems, ShowItems):
        if (key := kind_of_items.key) in value:
            return kind_of_items(_are_items(value[key], key), time)
    if "placement" in value:
        name, content, revisions = _is_text(value["placement"], "placement"), value.get("is"), value.get("revisions")
        if revisions is not None:
            return SetPlacement(name, None, time, tuple(map(_is_revision, revisions)))
        if content is not None and type(content) is not dict:
            raise ValueError("its placement is not an object")
        return SetPlacement(name, content, time)
    if "displays" in value:
        items, counts = _are_items(value["displays"], "displays"), value["counts"]
        if not _are_counts(counts) or len(counts) != len(items):
            raise ValueError("its counts are not one whole number for each item")
        return Displays(items, tuple(counts), time)
    if "clock" in value:
        return ConfirmClock(time)
    if "table" in value:
        part, count = value["part"], value["of"]
        if type(part) is not int or type(count) is not int or not 0 <= part < count:
            raise ValueError("it is not a part of a table")
        data = base64.b64decode(_is_text(value["data"], "data"), validate=True)
        return TablePart(_is_text(value["table"], "table"), part, count, data, time)
    return None


# All types are checked here: a wrong one must cost one record, and not stop the reader later.


def _is_text(value: Any, name: str) -> str:
    if type(value) is not str:
        raise ValueError(f"its {name} is not a string")
    return value


def _are_items(values: Any, name: str) -> tuple[int | str, ...]:
    if type(values) is not list or not all(
        type(item) is str or (type(item) is int and -INT64 <= item < INT64) for item in values
    ):
        raise ValueError(f"its {name} holds something that is not an item id")
    return tuple(values)


def _are_counts(values: Any) -> bool:
    return type(values) is list and all(type(number) is int and 0 <= number < _MAX_COUNT for number in values)


def _are_numbers(values: Any, name: str) -> tuple[float, ...]:
    if type(values) is not list or not all(type(number) in (int, float) and abs(number) < _HUGE for number in values):
        raise ValueError(f"its {name} hold something that is not a number")
    return tuple(values)


def _is_revision(value: Any) -> Revision:
    number, time, content = value
    if type(number) is not int or type(time) is not int or type(content) is not dict:
        raise ValueError("its revisions are not those of a placement")
    return Revision(number, time, content)


def _is_context(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if type(value) is not dict or not all(type(text) is str for text in value.values()):
        raise ValueError("its context does not hold texts by column")
    return value


def _rows(value: Mapping[str, Any], name: str, count: int) -> list[Any] | None:
    rows = value.get(name)
    if rows is not None and (type(rows) is not list or len(rows) != count):
        raise ValueError(f"its {name} are not one list for each of {count} items")
    return rows


def _encoded(value: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode("utf-8", "surrogatepass")
