"""Where open clicks come from, and which were refused for it, in memory that the workers of a service share.

Origins are nowhere else: as hashes under a key that is made at the start, so that no file and no log line names one.

After the guard's memory comes the day of the last warning, and then a ring of the last refusals for each worker. A
worker writes to its own ring alone. Whoever reads skips a record that is being written, by its checksum.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.origin_guard import FEW_CLICKS, ORIGIN_RULES, OriginGuard, Usual
from mtaw_fast.online.origin_guard import SIZE as _GUARD
from mtaw_fast.online.settings import DAY_MS
from mtaw_fast.service.client_address import ClientAddress
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.resources import SharedMemory
from mtaw_fast.service.settings import Settings

LAST_REFUSALS = 256
_CELL = 8
_FIELDS = struct.Struct("<BBHq8s")  # rule, flags, bytes of the item, time, origin
_CHECKSUM = struct.Struct("<I")
_RECORD = 256
_ITEM = _RECORD - _CHECKSUM.size - _FIELDS.size  # bytes; a longer id is cut
_INTEGER, _CUT = 1, 2  # flags
_RING = _CELL + LAST_REFUSALS * _RECORD  # the number of refusals so far comes first
_ADVICE = (
    "if it is a proxy, name it with --proxy; if it is your own server, let it send the token of --events-token-file"
)


class Refusal(NamedTuple):
    """A click that was not learned.

    item: an external id, cut if `cut`. time: in Unix milliseconds. origin: in hexadecimal; None where it did not matter
    or another host took the click.
    """

    rule: str
    item: int | str
    time: int
    origin: str | None = None
    cut: bool = False


class Origins:
    """Judges open clicks by their origin, for one worker.

    memory: what `make` made for the workers of `settings`. row: the worker's own.
    """

    def __init__(self, memory: SharedMemory, settings: Settings, row: int = 0) -> None:
        assert settings.learn is not None
        view = memoryview(mmap.mmap(memory.descriptor, _size(settings.workers)))
        self._guard = OriginGuard(settings.learn.limits, view[:_GUARD])
        self._warned = view[_GUARD : _GUARD + _CELL].cast("q")
        begins = range(_GUARD + _CELL, len(view), _RING)
        self._rings = [(view[begin : begin + _CELL].cast("q"), view[begin + _CELL : begin + _RING]) for begin in begins]
        self._own = self._rings[row]
        self._client = ClientAddress(settings)

    @staticmethod
    def make(workers: int) -> SharedMemory:
        """Return the memory of a service's workers. Raises MtawError if there is not enough."""
        memory = SharedMemory.make("mtaw-origins", _size(workers))
        with mmap.mmap(memory.descriptor, _GUARD) as mapped, memoryview(mapped) as view:
            OriginGuard.prepare(view)
        return memory

    def judged(self, scope: Any, clicks: Sequence[Click], usual: Usual, now: int) -> list[Click]:
        """Return the open clicks of the request of an ASGI scope; those that a rule refuses name it.

        They count: judge them once. usual: see `OriginGuard.judged`. now: Unix milliseconds.
        """
        origin = self._guard.origin_of(self._client.of(scope))
        judged = self._guard.judged(origin, clicks, usual, now)
        for click in [click for click in judged if click.refused is not None][-LAST_REFUSALS:]:
            self._note(click, origin, now)
        share = self.busiest_share()
        if share is not None and 2 * share > 1 and self._warned[0] != now // DAY_MS:
            self._warned[0] = now // DAY_MS  # two workers at once may both warn
            log_event("one_origin", level="warning", share_of_open_clicks=round(share, 3), advice=_ADVICE)
        return judged

    def busiest_share(self) -> float | None:
        """Return the share of this window's open clicks that came from one origin; None if there are few."""
        most, clicks = self._guard.busiest()
        return most / clicks if clicks >= FEW_CLICKS else None

    def refusals(self) -> list[Refusal]:
        """Return the last clicks that workers of this host refused as they arrived, the newest first."""
        found = [refusal for _, ring in self._rings for refusal in _read(ring)]
        return sorted(found, key=lambda refusal: -refusal.time)[:LAST_REFUSALS]

    def _note(self, click: Click, origin: bytes, now: int) -> None:
        count, ring = self._own
        item = str(click.item).encode("utf-8", "surrogatepass")
        flags = _INTEGER * isinstance(click.item, int) + _CUT * (len(item) > _ITEM)
        rule = ORIGIN_RULES.index(click.refused or "")
        record = _FIELDS.pack(rule, flags, min(len(item), _ITEM), now, origin) + item[:_ITEM].ljust(_ITEM, b"\0")
        begin = count[0] % LAST_REFUSALS * _RECORD
        count[0] += 1  # two threads at once may lose a record
        ring[begin : begin + _RECORD] = _CHECKSUM.pack(crc32(record)) + record


def _size(workers: int) -> int:
    return _GUARD + _CELL + workers * _RING


def _read(ring: memoryview) -> Iterator[Refusal]:
    for begin in range(0, len(ring), _RECORD):
        data = bytes(ring[begin : begin + _RECORD])
        record = data[_CHECKSUM.size :]
        rule, flags, length, time, origin = _FIELDS.unpack_from(record)
        if not time or _CHECKSUM.unpack_from(data)[0] != crc32(record):
            continue
        text = record[_FIELDS.size :][:length].decode("utf-8", "ignore")  # the cut may be within a character
        yield Refusal(
            ORIGIN_RULES[rule], int(text) if flags & _INTEGER else text, time, origin.hex(), bool(flags & _CUT)
        )
