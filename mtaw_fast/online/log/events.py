"""The events of a log: clicks, sessions to forget, items added and removed. Each is one line of JSON.

{"id": "e-1", "session": "s-1", "item": "sku-9", "time": 1764150000000, "type": "view", "arrived": 1764150000007,
 "context": {"referrer": "search"}}
{"forget": "s-1", "time": ..}
{"add": ["sku-new"], "neighbors": [["sku-9", "sku-4"]], "time": ..}      or "vectors": [[..], ..]
{"remove": ["sku-7"], "time": ..}
{"hide": ["sku-7"], "time": ..}      and "show"
{"rules": "shoes", "are": {"filter": ..}, "time": ..}      rules that are kept by name; null removes them
{"table": "2f1c..", "part": 0, "of": 2, "data": "<base64>", "time": ..}     a change of the item table, in parts
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mtaw_fast.data.context import checked_context
from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.items import TableChange
from mtaw_fast.system import host

MAX_TEXT_LENGTH = 512  # characters of an id
_INT64 = 2**63
_PART_BYTES = 16 << 20  # of a change of the item table in one record
_MAX_UNFINISHED = 16
_MOST_REFUSED = 256
_HUGE = 2.0**128  # a vector is stored as float32, which ends here
EARLIEST, LATEST = 0, 4_102_444_800_000  # 1970 .. 2100: any other number is not a time in milliseconds
_SECONDS = 1_000_000_000  # from here on (2001) a number of seconds; in milliseconds it is a day of January 1970


@dataclass(frozen=True, slots=True)
class Click:
    """One click of one session.

    Attributes
    ----------
    session : str
        The session's id, chosen by the client.
    item : int | str
        External id. An unknown item enters the catalog.
    time : int
        Unix time in milliseconds.
    type : str | None
        The kind of event ("view", "cart", ..).
    id : str | None
        The event's own id. Two events of a session with one id count once.
    arrived : int | None
        Unix milliseconds at which a service received it, by that host's clock. None in a log file, and in logs of
        release 0.2 and earlier.
    context : mapping of str to str | None
        What is known of the visit, by column (`data.context`).
    """

    session: str
    item: int | str
    time: int
    type: str | None = None
    id: str | None = None
    arrived: int | None = None
    context: Mapping[str, str] | None = None

    def line(self) -> bytes:
        """Return the event as one line of JSON, without a newline."""
        value: dict[str, Any] = {"session": self.session, "item": self.item, "time": self.time}
        if self.type is not None:
            value["type"] = self.type
        if self.id is not None:
            value["id"] = self.id
        if self.arrived is not None:
            value["arrived"] = self.arrived
        if self.context:
            value["context"] = dict(self.context)
        return _encoded(value)


@dataclass(frozen=True, slots=True)
class Forget:
    """A request to remove everything learned from a session. session: its id. time: Unix milliseconds."""

    session: str
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"forget": self.session, "time": self.time})


@dataclass(frozen=True, slots=True)
class AddItems:
    """Items for the catalog, each with either neighbors (ids of known items) or a vector (d numbers)."""

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
    """Items that must not be recommended any more."""

    items: tuple[int | str, ...]
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"remove": self.items, "time": self.time})


@dataclass(frozen=True, slots=True)
class HideItems:
    """Items that must not be recommended until they are shown again; the catalog need not know them."""

    items: tuple[int | str, ...]
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"hide": self.items, "time": self.time})


@dataclass(frozen=True, slots=True)
class ShowItems:
    """Items that may be recommended again."""

    items: tuple[int | str, ...]
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"show": self.items, "time": self.time})


@dataclass(frozen=True, slots=True)
class TablePart:
    """A part of a change of the item table, which takes effect with its last part.

    Attributes
    ----------
    table : str
        Names the change.
    part, of : int
        The number of the part, from 0, and the number of parts.
    data : bytes
        This part of `TableChange.packed`.
    time : int
        Unix milliseconds.
    """

    table: str
    part: int
    of: int
    data: bytes
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        text = base64.b64encode(self.data).decode()
        return _encoded({"table": self.table, "part": self.part, "of": self.of, "data": text, "time": self.time})


@dataclass(frozen=True, slots=True)
class KeepRules:
    """Rules on rankings that are kept under a name from now on; None removes them."""

    name: str
    rules: Mapping[str, Any] | None
    time: int

    def line(self) -> bytes:
        """See `Click.line`."""
        return _encoded({"rules": self.name, "are": self.rules, "time": self.time})


Event = Click | Forget | AddItems | RemoveItems | HideItems | ShowItems | TablePart | KeepRules


def table_parts(change: TableChange, time: int) -> list[TablePart]:
    """Return the events of a change of the item table."""
    data = change.packed()
    pieces = [data[begin : begin + _PART_BYTES] for begin in range(0, len(data), _PART_BYTES)]
    name = host.new_id()
    return [TablePart(name, number, len(pieces), piece, time) for number, piece in enumerate(pieces)]


class TableParts:
    """Collects the parts of changes of the item table until they are complete.

    Parameters
    ----------
    refused : iterable of str, optional
        What it begins with.

    Attributes
    ----------
    refused : tuple of str
        The last changes that did not fit the item table when their turn came, by `TablePart.table`.
    """

    def __init__(self, refused: Iterable[str] = ()) -> None:
        self._parts: dict[str, list[TablePart]] = {}
        self.refused: tuple[str, ...] = tuple(refused)

    def complete(self, event: Event) -> bytes | None:
        """Take a part; return the packed change if it was the last one, else None, as for any other event."""
        if not isinstance(event, TablePart):
            return None
        parts = self._parts.setdefault(event.table, [])
        if len(parts) == event.part:  # another part is a duplicate, or one before it is lost
            parts.append(event)
        if len(parts) == event.of:
            return b"".join(one.data for one in self._parts.pop(event.table))
        if len(self._parts) > _MAX_UNFINISHED:  # their writers have died
            del self._parts[next(iter(self._parts))]
        return None

    def refuse(self, table: str) -> None:
        """Note that a change does not fit."""
        self.refused = (*self.refused[1 - _MOST_REFUSED :], table)  # another thread may read it

    @property
    def unfinished(self) -> list[TablePart]:
        """The parts of changes that are not complete."""
        return [one for parts in self._parts.values() for one in parts]


def now_ms() -> int:
    """Return the Unix time in milliseconds."""
    return host.time_ns() // 1_000_000


def checked_click(
    session: Any,
    item: Any,
    at: Any = None,
    kind: Any = None,
    identity: Any = None,
    context: Any = None,
    *,
    where: str = "event",
) -> Click:
    """Check untrusted values and return them as a click.

    Parameters
    ----------
    session, item, at, kind, identity, context
        The fields of `Click`. None as `at` means now.
    where : str
        Names the event in an error.

    Raises
    ------
    DataError
        If a value has the wrong type, is empty or too long, or is not a time in milliseconds.
    """
    if item is None or isinstance(item, bool) or not isinstance(item, (int, str)):
        item = _whole(item)
    if item is None or (isinstance(item, int) and not -_INT64 <= item < _INT64) or (item == ""):
        raise DataError(f"{where}: item must be a 64-bit integer or a string; give the item's external id")
    if isinstance(item, str) and len(item) > MAX_TEXT_LENGTH:
        raise DataError(f"{where}: item has {len(item)} characters; at most {MAX_TEXT_LENGTH}")
    at = now_ms() if at is None else at
    if isinstance(at, bool) or not isinstance(at, int) or not EARLIEST <= at <= LATEST:
        raise DataError(f"{where}: time {shown(at)} must be Unix milliseconds, an integer from 1970 to 2100")
    if _SECONDS <= at <= LATEST // 1000:
        raise DataError(f"{where}: time {at} looks like seconds; send milliseconds, {at}000")
    return Click(
        _text("session", session, where),
        item,
        at,
        None if kind is None else _text("type", kind, where),
        None if identity is None else _text("id", identity, where),
        context=_context_of(context, where),
    )


def is_id(item: Any) -> bool:
    """Return whether a catalog can hold an id: a 64-bit integer, or a string of 1 to `MAX_TEXT_LENGTH` characters."""
    if type(item) is int:
        return -_INT64 <= item < _INT64
    return type(item) is str and 0 < len(item) <= MAX_TEXT_LENGTH


def forget_of(session: Any, at: int) -> Forget:
    """Return the request to forget a session. Raises DataError if `session` is not a valid id."""
    return Forget(_text("session", session, "forget"), at)


def parse(line: bytes) -> Event | None:
    """Return the event of a line that `line()` made, or None if this release does not know its kind.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the line is not an event.
    """
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("its nesting is too deep") from None
    if not isinstance(value, dict) or type(value["time"]) is not int or not EARLIEST <= value["time"] <= LATEST:
        raise ValueError("it is not an event with a time")
    time = value["time"]
    if "session" in value:
        session, item = _is_text(value["session"], "session"), _are_items([value["item"]], "item")[0]
        kind, identity = value.get("type"), value.get("id")
        if kind is not None:
            _is_text(kind, "type")
        if identity is not None:
            _is_text(identity, "id")
        arrived = value.get("arrived")
        if arrived is not None and (type(arrived) is not int or not EARLIEST <= arrived <= LATEST):
            raise ValueError("its arrival is not a time")
        return Click(session, item, time, kind, identity, arrived, _is_context(value.get("context")))
    if "forget" in value:
        return Forget(_is_text(value["forget"], "forget"), time)
    if "add" in value:
        items = _are_items(value["add"], "add")
        named = "neighbors" if "neighbors" in value else "neighbours"  # as in release 0.2; prose: ignore
        near, vectors = _rows(value, named, len(items)), _rows(value, "vectors", len(items))
        return AddItems(
            items,
            None if near is None else tuple(_are_items(row, "neighbors") for row in near),
            None if vectors is None else tuple(_are_numbers(row, "vectors") for row in vectors),
            time,
        )
    if "remove" in value:
        return RemoveItems(_are_items(value["remove"], "remove"), time)
    if "hide" in value:
        return HideItems(_are_items(value["hide"], "hide"), time)
    if "show" in value:
        return ShowItems(_are_items(value["show"], "show"), time)
    if "rules" in value:
        rules = value["are"]
        if rules is not None and type(rules) is not dict:
            raise ValueError("its rules are not an object")
        return KeepRules(_is_text(value["rules"], "rules"), rules, time)
    if "table" in value:
        part, of = value["part"], value["of"]
        if type(part) is not int or type(of) is not int or not 0 <= part < of:
            raise ValueError("it is not a part of a table")
        data = base64.b64decode(_is_text(value["data"], "data"), validate=True)
        return TablePart(_is_text(value["table"], "table"), part, of, data, time)
    return None


# All types are checked here: a wrong one must cost one record, and not stop the reader later.


def _is_text(value: Any, name: str) -> str:
    if type(value) is not str:
        raise ValueError(f"its {name} is not a string")
    return value


def _are_items(values: Any, name: str) -> tuple[int | str, ...]:
    if type(values) is not list or not all(
        type(one) is str or (type(one) is int and -_INT64 <= one < _INT64) for one in values
    ):
        raise ValueError(f"its {name} holds something that is not an item id")
    return tuple(values)


def _are_numbers(values: Any, name: str) -> tuple[float, ...]:
    if type(values) is not list or not all(type(one) in (int, float) and abs(one) < _HUGE for one in values):
        raise ValueError(f"its {name} hold something that is not a number")
    return tuple(values)


def _is_context(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if type(value) is not dict or not all(type(one) is str for one in value.values()):
        raise ValueError("its context does not hold texts by column")
    return value


def _context_of(value: Any, where: str) -> dict[str, str] | None:
    """Return untrusted context, checked; None if there is no value. Raises DataError."""
    if value is None:
        return None
    try:
        return checked_context(value, where=f"{where}: context") or None
    except UsageError as error:
        raise DataError(str(error)) from None


def _rows(value: Mapping[str, Any], name: str, count: int) -> list[Any] | None:
    rows = value.get(name)
    if rows is not None and (type(rows) is not list or len(rows) != count):
        raise ValueError(f"its {name} are not one list for each of {count} items")
    return rows


def _text(name: str, value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {name} must be a string that is not empty, not {shown(value)}")
    if len(value) > MAX_TEXT_LENGTH:
        raise DataError(f"{where}: {name} has {len(value)} characters; at most {MAX_TEXT_LENGTH}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: {name} is not valid Unicode; send UTF-8") from None
    return value


def _whole(value: Any) -> int | None:
    """Return a numpy integer as a Python one; None if it is not an integer."""
    try:
        return None if isinstance(value, bool) else value.__index__()
    except AttributeError:
        return None


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
