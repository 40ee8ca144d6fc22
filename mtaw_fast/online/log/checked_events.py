"""Events from values that nobody has checked: of clients, files and callers."""

from __future__ import annotations

import operator
from typing import Any

from mtaw_fast.data.context import checked_context
from mtaw_fast.errors import DataError, UsageError, other_unit, shown
from mtaw_fast.online.log.events import EARLIEST, INT64, LATEST, MAX_TEXT_LENGTH, Click, Forget, now_ms


def checked_click(
    session: Any,
    item: Any,
    at: Any = None,
    kind: Any = None,
    identity: Any = None,
    context: Any = None,
    *,
    where: str = "event",
    trusted: bool = False,
) -> Click:
    """Check untrusted values and return them as a click. None as `at` means now; `where` names the event in an error.

    Raises DataError if a value has the wrong type, is empty or too long, or is not a time in milliseconds.
    """
    if not isinstance(item, str):
        item = _whole(item)
    if item is None or (isinstance(item, int) and not -INT64 <= item < INT64) or (item == ""):
        raise DataError(f"{where}: item must be a 64-bit integer or a string; give the item's external id")
    if isinstance(item, str) and len(item) > MAX_TEXT_LENGTH:
        raise DataError(f"{where}: item has {len(item)} characters; at most {MAX_TEXT_LENGTH}")
    time = now_ms() if at is None else _whole(at)
    if time is None or not LATEST // 1000 < time <= LATEST:
        if time is not None and (wrong := other_unit(time)):
            raise DataError(f"{where}: time {time}{wrong}")
        if time is None or not EARLIEST <= time <= LATEST:
            raise DataError(f"{where}: time {shown(at)} must be Unix milliseconds, an integer from 1970 to 2100")
    return Click(
        _text("session", session, where),
        item,
        time,
        None if kind is None else _text("type", kind, where),
        None if identity is None else _text("id", identity, where),
        context=None if context is None else _context_of(context, where),
        trusted=trusted,
    )


def forget_of(session: Any, at: int) -> Forget:
    """Return the request to forget a session. Raises DataError if `session` is not a valid id."""
    return Forget(_text("session", session, "forget"), at)


def _context_of(value: Any, where: str) -> dict[str, str] | None:
    """Return untrusted context, checked; None if it is empty. Raises DataError."""
    try:
        return checked_context(value, where=f"{where}: context") or None
    except UsageError as error:
        raise DataError(str(error)) from None


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
    """Return an integer, also one of numpy, as a Python one; None if it is not an integer."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
