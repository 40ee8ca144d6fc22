"""Times that people write as options."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Mapping
from typing import Any

from mtaw_fast.errors import UsageError, other_unit

_OLD = 24 * 3600  # seconds


def milliseconds_of(name: str, moment: datetime.datetime) -> int:
    """Return a datetime as milliseconds since 1970. Raises UsageError, naming `name`, if it has no zone: Python takes
    such a one for local time, a log for UTC."""
    if moment.tzinfo is None:
        raise UsageError(f"{name} {moment.isoformat()} has no zone; pass one, as in datetime.now(datetime.UTC)")
    return round(moment.timestamp() * 1000)


def moment_of(name: str, time: str | int | None) -> int | None:
    """Return a time as milliseconds since 1970; None for None.

    name: of the option, for messages. time: ISO-8601 text, UTC unless it names an offset; or Unix milliseconds, as text
    of more digits than 20171015.

    Raises UsageError on anything else, such as seconds.
    """
    if time is None:
        return None
    text, number = str(time), time if isinstance(time, int) and not isinstance(time, bool) else None
    with contextlib.suppress(ValueError):  # also raised for more digits than Python reads
        if not isinstance(time, (str, int)):  # the text of a datetime is a time too, but no record can hold it
            raise ValueError
        if number is None and text.isdecimal() and len(text) > len("20171015"):
            number = int(text)
        if number is None:
            moment = datetime.datetime.fromisoformat(text)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
            return round(moment.timestamp() * 1000)
        if not -(1 << 63) <= number < 1 << 63:
            raise ValueError
        if wrong := other_unit(number):
            raise UsageError(f"{name} {text}{wrong}")
        return number
    raise UsageError(f"{name} {time!r} is not a time; write 2017-10-15, 2017-10-15T08:30 or Unix milliseconds")


def text_of(moment: int) -> str:
    """Return Unix milliseconds as a text for people."""
    return f"{datetime.datetime.fromtimestamp(moment // 1000, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def text_of_age(last_click: int) -> str:
    """Return when the learned clicks end, Unix milliseconds, and how long ago."""
    hours = (time.time() - last_click / 1000) / 3600
    count, unit = (round(hours / 24), "day") if hours >= 48 else (round(max(hours, 0)), "hour")
    return f"{text_of(last_click)}, {count:,} {unit}{'' if count == 1 else 's'} ago"


def warning_of_age(last_click: int | None, metrics: Mapping[str, Any]) -> str | None:
    """Return a warning if the learned clicks end, Unix milliseconds, over a day ago; None if not, or unknown.

    metrics: of the bundle, which may say what the age costs.
    """
    seconds = 0.0 if last_click is None else time.time() - last_click / 1000
    if last_click is None or seconds <= _OLD:
        return None
    cost, later = "'mtaw-fast evaluate' says what the age costs", "a week or more" if seconds >= 7 * _OLD else "a day"
    if measured := metrics.get("served_later"):
        cost = (
            f"On the validation clicks P@20 is {measured['at once']:.2f} at once, and {measured[later]:.2f} served "
            f"{later} later"
        )
    return (
        f"the learned clicks end {text_of_age(last_click)}, but for a few: what rose since is unknown; update the "
        f"bundle, learn while serving, or rank at a time of the past (at). {cost}"
    )
