"""What was asked of the log, and what must follow from it. It reads the log's files by their published format alone.

It knows nothing of the code: what clicks teach is computed here from docs/live.md and docs/learning-limits.md.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mtaw_fast.items.placements import MAX_REVISIONS
from tests.simulation.expected_table import Change, ExpectedTable

_HOUR = 3_600_000


class BrokenPromiseError(AssertionError):
    """A promise that was not kept."""


@dataclass(slots=True)
class Sent:
    """One request to append. outcome: "acknowledged", "refused", or "cut" if its process died."""

    server: str
    events: list[dict[str, Any]]
    outcome: str = "cut"


@dataclass(slots=True)
class Record:
    """An event of the log.

    kept: whether it was promised to survive a power loss. doubtful: whether a flush failed since. gone: whether it is
    no longer in the log. only_in: after a power loss, the training whose compacted bundle alone has it, since a
    refused event may be learned, once.
    """

    event: dict[str, Any]
    server: str = ""
    acknowledged: bool = False
    kept: bool = False
    doubtful: bool = False
    gone: bool = False
    only_in: str | None = None


@dataclass(slots=True)
class Visit:
    """What one session clicked.

    last: the time of its last click, if that was open the time of its arrival. at: the time of the log then.
    """

    session: str
    last: int
    at: int = 0
    items: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Base:
    """A trained bundle.

    training: its hash. counts: its clicks by item. until: the time of the last one. updates: the items of each session
    that updates added to it.
    """

    training: str
    counts: Counter[str]
    until: int = 0
    updates: tuple[tuple[str, ...], ...] = ()


@dataclass(slots=True)
class Expected:
    """What a reader must know. visits: in the order of their first clicks."""

    counts: Counter[str]
    visible: set[str]
    visits: list[Visit]
    table: ExpectedTable


def records_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the whole records of a log by position, in order."""
    records = {}
    for path in sorted(folder.glob("events-*.log")):
        number, begin = int(path.name[7:-4]), 0
        data = path.read_bytes()
        while (end := data.find(b"\n", begin)) >= 0:
            line, begin = data[begin:end], end + 1
            event = _event(line)
            if event is not None:
                records[f"{number:010d}-{begin:012d}"] = event
    return records


@lru_cache(1 << 14)
def _event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line, None if it is not a whole record."""
    try:
        whole = line[8:9] == b" " and int(line[:8], 16) == zlib.crc32(line[9:])
    except ValueError:
        return None
    return json.loads(line[9:]) if whole else None


def key_of(event: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two records of one event share."""
    if "session" in event:
        return "click", event["session"], event["item"], event.get("id")
    for kind in ("forget", "add", "remove", "hide", "show"):
        if kind in event:
            return kind, str(event[kind])
    if "placement" in event:
        return "placement", event["placement"], json.dumps(event["is"], sort_keys=True)
    return "table", event["table"], event["part"]


class Oracle:
    """All requests, and all events that the log has ever held.

    read: returns the log's records by position. catalog: the items of the trained bundle. gap: milliseconds without a
    click after which a session ends. change: returns what was asked for by a change of the item table, by its id.
    """

    def __init__(
        self, read: Callable[[], dict[str, dict[str, Any]]], catalog: Sequence[str], gap: int,
        change: Callable[[str], Change],
    ) -> None:  # fmt: skip
        self._read, self._catalog, self._gap, self._change = read, catalog, gap, change
        self.sent: list[Sent] = []
        self.records: dict[str, Record] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self.version = 0  # another one whenever other events count

    def send(self, server: str, events: list[dict[str, Any]]) -> Sent:
        """Note a request before it is made."""
        self.sent.append(Sent(server, events))
        return self.sent[-1]

    def acknowledge(self, sent: Sent, position: str, at_once: bool) -> None:
        """Note that a request was acknowledged. at_once: whether it must survive a power loss from now on."""
        sent.outcome = "acknowledged"
        self.update()
        order = [place for place in self.records if place <= position]
        matches = list[Record]()
        for event in reversed(sent.events):
            if order and key_of(self.records[order[-1]].event) == key_of(event) and (matches or order[-1] == position):
                matches.append(self.records[order.pop()])
            elif not self._is_known(event):  # a compaction removes what comes again
                raise BrokenPromiseError(
                    f"{sent.server} acknowledged {_short(sent.events)} at {position}, and the log lacks it there"
                )
        for record in matches:
            record.acknowledged, record.server, record.kept = True, sent.server, at_once

    def acknowledge_table(self, server: str, names: Sequence[str], at_once: bool) -> None:
        """Note that a change of the item table was acknowledged. names: of its tries, in the log. at_once: as above."""
        self.update()
        applied = self.expected(self.end, None).table.applied.intersection(names)
        if not applied:
            raise BrokenPromiseError(f"{server} acknowledged a change of the item table that the log does not apply")
        for record in self.records.values():
            if record.event.get("table") in applied:
                record.acknowledged, record.server, record.kept = True, server, at_once

    def flushed(self, server: str) -> None:
        """Note that a server had the time to flush, and nothing failed."""
        for record in self.records.values():
            if record.acknowledged and record.server == server and not record.doubtful:
                record.kept = True

    def flush_failed(self) -> None:
        """Note that a flush failed: until then only what was kept before is safe."""
        for record in self.records.values():
            record.doubtful = record.doubtful or not record.kept

    def update(self, after_power_loss: bool = False, bundle: tuple[str, str] = ("", "")) -> None:
        """Read the log again. Raises BrokenPromiseError if it lost a record, or holds one that nobody sent.

        bundle: after a power loss, the position of the compacted bundle, and its training.
        """
        now = self._read()
        if not after_power_loss and now == self._last:
            return
        self._last, self.version = now, self.version + 1
        fresh = {position for position, entry in self.records.items() if not entry.gone and position not in now}
        for position, record in self.records.items():
            record.gone = position not in now
        for position, record in list(self.records.items()):
            if record.only_in is not None:
                continue
            if position in fresh and not self._may_go(position, record, now, after_power_loss, bundle[0]):
                if record.kept or not after_power_loss:
                    raise BrokenPromiseError(
                        f"the log lost {_short([record.event])} at {position}, which was acknowledged"
                    )
                if position <= bundle[0]:
                    record.only_in = bundle[1]
                else:
                    del self.records[position]
            elif (
                record.gone
                and after_power_loss
                and position > bundle[0]
                and (position > max(now, default="") or (position in fresh and not record.kept))
            ):  # a repeat at the log's end: another event will have its position; or lost, and forgotten later anyway
                del self.records[position]
        if now.keys() - self.records.keys():
            sent = Counter(key_of(event) for request in self.sent for event in request.events)
            held = Counter(key_of(event) for event in now.values())
            for key, count in held.items():
                if count > sent[key] and key[0] != "table":  # each try has a name of its own
                    raise BrokenPromiseError(f"the log holds {key} {count} times, and it was sent {sent[key]} times")
        for position, event in now.items():
            if position in self.records and key_of(self.records[position].event) != key_of(event):
                raise BrokenPromiseError(f"the log has another event at {position} than before: {_short([event])}")
            self.records.setdefault(position, Record(event))
        self.records = dict(sorted(self.records.items()))

    def _may_go(
        self, position: str, record: Record, now: Mapping[str, Any], after_power_loss: bool, compacted: str
    ) -> bool:
        """Return whether a record may leave the log.

        Its session was forgotten, it came again, or its segment was deleted. compacted: where a compaction ended.
        """
        session = record.event.get("session")
        if session is not None and self._is_known(record.event, position):
            return True
        later = (
            other.event
            for place, other in self.records.items()
            if place > position and not (other.gone and after_power_loss)
        )
        unread = (event for place, event in now.items() if place > position)  # the request may not be acknowledged yet
        if session is not None and any(event.get("forget") == session for event in itertools.chain(later, unread)):
            return True
        # A file's positions begin with the segment, a stream's with 15 digits of milliseconds.
        known = (place for place, other in self.records.items() if self._is_known(other.event, place))
        first = min(now) if now else max(known, default="")
        if after_power_loss and position < compacted and not any(place[:10] == position[:10] for place in now):
            return True  # an older segment may be back, whose deletion was not flushed
        return position[:10] < first[:10] or (position[10] != "-" and position < first)

    def _is_known(self, event: Mapping[str, Any], before: str | None = None) -> bool:
        """Return whether a click's id is in the log, or was, at another position before one."""
        return "session" in event and any(
            (record.event.get("session"), record.event.get("id")) == (event["session"], event["id"])
            for position, record in self.records.items()
            if before is None or position < before
        )

    @property
    def clicks(self) -> list[Record]:
        """The clicks of the log, in order."""
        return [record for record in self.records.values() if "session" in record.event]

    @property
    def end(self) -> str:
        """The position after the last event that is still there."""
        return max((position for position, record in self.records.items() if not record.gone), default="")

    def forgotten_tokens(self, until: str) -> list[bytes]:
        """Return what only clicks contain that were forgotten before a position: the event ids, quoted."""
        forgotten: dict[str, str] = {}
        for position, record in self.records.items():
            if "forget" in record.event and position <= until:
                forgotten[record.event["forget"]] = position
        ids, others = set[str](), set[str]()
        for position, record in self.records.items():
            session = record.event.get("session")
            if session is not None:
                (ids if position < forgotten.get(session, "") else others).add(record.event["id"])
        # Not those that were sent once more: the half of a refused record may lie after the request to forget.
        counts = Counter(event["id"] for request in self.sent for event in request.events if "session" in event)
        return [f'"{event_id}"'.encode() for event_id in sorted(ids - others) if counts[event_id] == 1]

    def expected(self, until: str, base: Base | None) -> Expected:
        """Return what all events up to a position teach on top of a trained bundle. None: of one without clicks."""
        base = base or Base("", Counter())
        events = (
            record.event
            for position, record in self.records.items()
            if position <= until and record.only_in in (None, base.training)
        )
        return _learned(events, base, self._catalog, self._gap, self._change)


def _learned(
    events: Iterable[Mapping[str, Any]],
    base: Base,
    catalog: Iterable[str],
    gap: int,
    change: Callable[[str], Change],
) -> Expected:
    table = ExpectedTable()
    seen, visits, current = set[tuple[str, str]](), list[Visit](), dict[str, Visit]()
    known, removed, hidden = {*catalog}, set[str](), set[str]()
    clock, arrival = base.until if base.updates else 0, 0  # an update goes by the clock of its log
    for event in events:
        if "session" in event:
            session, time = event["session"], event["time"]
            if "refused" in event:
                continue
            moment = time if event.get("trusted") else event["arrived"]  # visits of open clicks are cut by arrival
            if not event.get("trusted"):
                time = max(time, event["arrived"] - gap)
            repeats = (session, event["id"]) in seen
            seen.add((session, event["id"]))
            if repeats or time <= base.until:
                continue
            # One click moves the time of the log by an hour at most, unless another one has arrived then.
            clock = max(clock, min(time, max(arrival, clock + _HOUR)) if clock else time)
            arrival = max(arrival, event["arrived"])
            visit = current.get(session)
            if visit is None or abs(moment - visit.last) > gap or visit.at < clock - gap:
                visit = current[session] = Visit(session, moment)
                visits.append(visit)
            visit.last, visit.at = max(visit.last, moment), max(clock, time)
            visit.items.append(event["item"])
        elif "forget" in event:
            current.pop(event["forget"], None)
            visits = [other for other in visits if other.session != event["forget"]]
        elif "add" in event:
            known.update(event["add"])
            removed.difference_update(event["add"])
        elif "remove" in event:
            removed.update(event["remove"])
        elif "hide" in event:
            hidden.update(event["hide"])
        elif "show" in event:
            hidden.difference_update(event["show"])
        elif "table" in event:
            table.take(event, change(event["table"]))
        elif event["is"] is None:
            table.placements.pop(event["placement"], None)
        else:
            earlier = table.placements.get(event["placement"], [])
            table.placements[event["placement"]] = [*earlier, event["is"]][-MAX_REVISIONS:]
    counts = Counter(base.counts)
    for counted in visits:
        counts.update(set(counted.items))
    visible = (known | {item for item, count in counts.items() if count > 0}) - removed - hidden
    return Expected(counts, visible - table.unavailable, visits, table)


def _short(events: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(" ".join(map(str, key_of(event))) for event in events)
