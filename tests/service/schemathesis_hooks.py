"""Hooks for schemathesis: send whole numbers as integers, because JSON Schema allows 20.0 and the service does not.

Send ids as texts, as those of the catalog are: a session with only numbers is refused. Send types only if there is one
for each click, which the document cannot say. Make ids of rankings with the service's key. Name no columns of items or
visits, of which the bundle has none, unless $MTAW_TEST_COLUMNS is set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import schemathesis

from mtaw_fast.service.ranking_ids import PATTERN, load_key, new_id, use_key
from mtaw_fast.service.settings import Settings

use_key(load_key(Settings(Path())))  # that of the environment
EARLIEST_MS = 10**11
_COLUMNS = () if os.environ.get("MTAW_TEST_COLUMNS") else ("context", "rules", "fields")
_CLICKS = ("session", "sessions", "items", "shown", "clicked", "carted", "bought", "explored")


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """Replace 20.0 by 20 in a body."""
    if isinstance(body, float) and body.is_integer():
        return int(body)
    if isinstance(body, list):
        return [map_body(_, value) for value in body]
    if isinstance(body, dict):
        return {name: map_body(_, value) for name, value in body.items()}
    return body


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Replace 20 by "20" in the ids of clicks, and leave out what names columns."""
    for name in _COLUMNS:
        (case.query or {}).pop(name, None)
    if isinstance(case.body, dict):
        case.body = map_body(None, case.body)  # not every phase maps bodies
        for record in (case.body, *_events_of(case.body)):
            for name in _COLUMNS:
                record.pop(name, None)
            if isinstance(record.get("time"), int) and record["time"] < EARLIEST_MS:  # it may look like seconds
                record["time"] = None
            if "item" in record:
                record["item"] = _as_text([record["item"]])[0]
        if case.body.get("reasons"):  # they are limited for long sessions
            case.body["k"] = 10
        clicks = next((case.body[name] for name in ("session", "sessions", "items") if name in case.body), None)
        if not _as_many(case.body.get("types"), clicks):
            del case.body["types"]
        case.body = {name: _as_text(value) if name in _CLICKS else value for name, value in case.body.items()}
        name = case.body.get("recommendation")
        if isinstance(name, str) and re.fullmatch(PATTERN, name):
            case.body["recommendation"] = new_id(name[:16])


def _as_many(types: Any, clicks: Any) -> bool:
    """Return false if these are lists, of lists perhaps, of which one is longer than the other."""
    if not isinstance(types, list) or not isinstance(clicks, list):
        return True
    return len(types) == len(clicks) and all(map(_as_many, types, clicks))


def _events_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    events = body.get("events")
    return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def _as_text(ids: Any) -> Any:
    """Return numbers in lists of any depth as texts, and those of reported items."""
    if isinstance(ids, dict) and isinstance(ids.get("item"), int):
        return {**ids, "item": str(ids["item"])}
    if not isinstance(ids, list):
        return ids
    return [
        str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _as_text(value)
        for value in ids
    ]
