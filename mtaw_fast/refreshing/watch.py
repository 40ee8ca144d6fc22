"""Watch a promoted bundle on the service, and see that the watch took place."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from mtaw_fast.errors import MtawError
from mtaw_fast.refreshing.config import Watch
from mtaw_fast.refreshing.service import (
    ServiceCounts,
    ServiceError,
    alarm_of,
    counts_from,
    counts_of,
    reload,
    versions_served,
)

_SILENT = 5  # looks without an answer that are an alarm
_SERVED_AFTER = 10.0  # seconds in which a service that was not asked finds a bundle by itself


def counted(url: str) -> dict[str, Any]:
    """Return what a service counts, as `counts`, or why it does not answer, as `missed`."""
    try:
        return {"counts": dataclasses.asdict(counts_of(url))}
    except ServiceError as error:
        return {"missed": str(error)}


def reloaded(url: str, version: str) -> dict[str, Any]:
    """Ask a service to serve a promoted bundle.

    Returns `asked`, what became of it; `alarm`, if the service refuses the bundle; `missed`, if it serves another one.
    """
    try:
        asked = reload(url)
    except ServiceError as error:
        return {"asked": str(error), "alarm": f"reload: {error}"}
    if asked == "reloaded":
        return {"asked": asked}
    until = time.time() + _SERVED_AFTER
    while (wrong := _served_instead(url, version)) is not None and time.time() < until:
        time.sleep(0.5)
    return {"asked": asked} if wrong is None else {"asked": asked, "missed": f"{asked}; {wrong}"}


def _served_instead(url: str, version: str) -> str | None:
    """Return what a service serves instead of a bundle; None if it serves that."""
    try:
        served = versions_served(url)
    except MtawError:
        return f"nothing answers at {url}"
    return None if version in served else f"{url} serves {', '.join(served)}"


def watched(
    url: str,
    before: ServiceCounts | dict[str, Any],
    versions: tuple[str, str],
    until: float,
    limits: Watch,
    is_current: Callable[[], bool],
) -> dict[str, Any]:
    """Look at a service until a moment, Unix seconds, at least once.

    before: what it counted until the promotion. versions: of the bundle before, and of the promoted one. is_current:
    whether the promoted one still is.

    Returns `looks`, those that were answered; `alarm`, or None; and `missed`, if the last look was not answered.
    """
    first = before if isinstance(before, ServiceCounts) else counts_from(before)
    looks, silent, missed = 0, 0, None
    while True:
        time.sleep(min(limits.every, max(until - time.time(), 0.0)))
        if not is_current():  # someone promoted another one
            return {"looks": looks, "alarm": None}
        try:
            alarm = alarm_of(first, counts_of(url).since(first), versions, limits)
            looks, silent, missed = looks + 1, 0, None
        except ServiceError as error:
            silent, missed = silent + 1, str(error)
            alarm = f"silence: {error}" if silent == _SILENT else None
        if alarm is not None:
            return {"looks": looks, "alarm": alarm}
        if time.time() >= until:
            return {"looks": looks, "alarm": None} | ({"missed": missed} if missed else {})
