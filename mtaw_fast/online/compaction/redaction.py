"""Taking what forgotten sessions clicked out of the log, for good: what one compaction does not get to the next does.

`redacted.json` in the folder to learn in says up to where every request to forget is done. It is written last, so that
whoever is killed before it leaves the work to be done again, not undone.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import START, EventLog
from mtaw_fast.online.log.events import Forget
from mtaw_fast.storage.files import read_json, write_json

MARK = "redacted.json"
_READ_EVENTS = 10_000
_LOG = logging.getLogger("mtaw_fast.online")


def redact_forgotten(log: EventLog, folder: Path, until: str) -> int:
    """Scrub the clicks of every session that asked to be forgotten up to a position; returns how many records went.

    Clicks behind a session's last request stay: they are of another session with its id.

    Parameters
    ----------
    log : EventLog
        What to redact.
    folder : Path
        Remembers how far it is done, on this machine.
    until : str
        Everything up to there is in the tables, or left out of them.

    Raises
    ------
    MtawError
        Where the log or the folder cannot be read or written: it is left to the next time.
    """
    forgotten = dict[str, str]()
    position = _done(log, folder)
    while position < until and (some := log.read(position, _READ_EVENTS)):
        forgotten.update(
            (one.event.session, one.position) for one in some if isinstance(one.event, Forget) and one.position <= until
        )
        position = some[-1].position
    count = log.redact(forgotten)
    write_json(folder / MARK, {"log": log.identity, "position": until})
    return count


def is_redacted(log: EventLog, folder: Path, until: str) -> bool:
    """Whether `redact_forgotten` has nothing left to do up to a position. Arguments as there."""
    return _done(log, folder) >= until


def _done(log: EventLog, folder: Path) -> str:
    """Up to where nothing is left to redact."""
    path = folder / MARK
    if not path.exists():
        return START
    try:
        mark = read_json(path, LearnError)
    except LearnError as error:
        _LOG.warning("%s: the whole log is looked through for what is to be redacted", error)
        return START
    if not isinstance(mark, dict) or mark.get("log") != log.identity or not isinstance(mark.get("position"), str):
        return START
    return mark["position"]
