"""Times that people write as options."""

from __future__ import annotations

import contextlib
import datetime

from mtaw_fast.errors import UsageError


def moment_of(name: str, time: str | int | None) -> int | None:
    """Return a time as milliseconds since 1970; None for None.

    Parameters
    ----------
    name : str
        Of the option, for messages.
    time : str or int, optional
        ISO-8601 text, UTC unless it names an offset; or Unix milliseconds, as text of more digits than 20171015.

    Raises
    ------
    UsageError
        On anything else.
    """
    if time is None or isinstance(time, int):
        return time
    text = str(time)
    with contextlib.suppress(ValueError):  # also raised for more digits than Python reads
        if text.isdecimal() and len(text) > len("20171015") and int(text) < 1 << 63:
            return int(text)
        moment = datetime.datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
        return round(moment.timestamp() * 1000)
    raise UsageError(f"{name} {text!r} is not a time; write 2017-10-15, 2017-10-15T08:30 or Unix milliseconds")
