"""Redaction of the log: removes the clicks of sessions that asked to be forgotten. It resumes after an interruption.

`redacted.json` in the learning folder stores the position up to which every request is done. It is written last, so
that an interrupted redaction is repeated and never skipped.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import START, EventLog
from mtaw_fast.online.log.events import Forget
from mtaw_fast.online.log.private_files import FILE_MODE
from mtaw_fast.storage.files import read_json, write_json
from mtaw_fast.system import host

MARK = "redacted.json"
_READ_EVENTS = 10_000
_LOG = logging.getLogger("mtaw_fast.online")


def redact_forgotten(log: EventLog, folder: Path, until: str) -> int:
    """Remove the clicks of sessions that asked to be forgotten up to a position; return the number of records.

    Clicks after a session's last request stay: they belong to another session with the same id.

    folder: the learning folder, which stores, for this host, how far redaction is done. until: the position of the
    compacted bundle, of the oldest one if several learn from the log: their tables hold, or leave out, every event
    before it. Raises MtawError if the log or the folder cannot be read or written: the next call tries again.
    """
    count = log.redact(forgotten_until(log, folder, until))
    write_json(folder / MARK, {"log": log.identity, "position": until}, FILE_MODE)
    return count


def forgotten_until(log: EventLog, folder: Path, until: str) -> dict[str, str]:
    """Return the positions of requests up to `until` that are not done yet, the last one of each session, by its id."""
    forgotten = dict[str, str]()
    position = _done(log, folder)
    while position < until and (entries := log.read(position, _READ_EVENTS)):
        forgotten.update(
            (entry.event.session, entry.position)
            for entry in entries
            if isinstance(entry.event, Forget) and entry.position <= until
        )
        position = entries[-1].position
    return forgotten


def is_redacted(log: EventLog, folder: Path, until: str) -> bool:
    """Return whether `redact_forgotten` has nothing left to do up to a position. Parameters as there."""
    return _done(log, folder) >= until


def _done(log: EventLog, folder: Path) -> str:
    """Return the position up to which redaction is done."""
    path = folder / MARK
    if not host.exists(path):
        return START
    try:
        mark = read_json(path, LearnError)
    except LearnError as error:
        _LOG.warning("%s: the whole log is checked again for clicks to redact", error)
        return START
    if not isinstance(mark, dict) or mark.get("log") != log.identity or not isinstance(mark.get("position"), str):
        return START
    return mark["position"]
