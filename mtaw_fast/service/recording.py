"""What is noted of rankings: the record of each that is answered, and which reports on its items have been counted."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import msgspec

from mtaw_fast.experiment.lines import KINDS, MOST_CLICKS, DrawLine, RankingLine
from mtaw_fast.ranking.answer import Draw
from mtaw_fast.rules import Placed
from mtaw_fast.service.feedback_store import FeedbackStore
from mtaw_fast.service.observability.counters import REPORT_CELLS
from mtaw_fast.service.snapshot import Snapshot

_HASH_BYTES = 4
_SHIFT = 65 - REPORT_CELLS.bit_length()  # of a 64-bit product, to its upper bits: as many as number the cells
_SALTS = {kind: 0x9E3779B9 * number & 0xFFFFFFFF for number, kind in enumerate(KINDS, start=1)}


class Recorder:
    """Writes the record of rankings into the feedback log.

    store: None if the service keeps no feedback; nothing is recorded then. shares: of the sessions by the bundle's
    name, if several are served.
    """

    def __init__(self, store: FeedbackStore | None, shares: dict[str, float]) -> None:
        self._store, self._shares = store, shares

    def record(
        self,
        snapshot: Snapshot,
        route: str,
        session: str | None,
        recommendation: str,
        items: Sequence[Any],
        fallback: bool = False,
        rules: Any = None,
        placed: Placed | None = None,
        draws: Sequence[Draw] = (),
        clicks: Sequence[Any] = (),
    ) -> None:
        """Record one ranking; see `RankingLine`. Call it on the event loop. rules: those that the request brings.

        clicks: the ranked session.
        """
        if self._store is None:
            return
        if placed is not None and (rules is None or (placed.together and placed.rules is not None)):
            name, share = placed.name, placed.share
        else:
            name, share = _name_of(rules), 1.0
        line = RankingLine(
            time=time.time_ns() // 1_000_000,
            recommendation=recommendation,
            session=session or "",
            version=snapshot.version,
            bundle=snapshot.name or "",
            share=self._shares.get(snapshot.name or "", 1.0),
            placement="" if placed is None else placed.placement,
            rules=name,
            rules_share=share,
            route=route,
            fallback=fallback,
            items=list(items),
            draws=[DrawLine(position=at + 1, candidates=found, chance=chance) for at, found, chance in draws],
            clicks=list(clicks[-MOST_CLICKS:]) if draws else [],
        )
        self._store.record(line)


def _name_of(rules: Any) -> str:
    """Return a hash of a request's own rules; "" without rules."""
    if rules is None:
        return ""
    digest = hashlib.blake2b(msgspec.json.encode(rules), digest_size=_HASH_BYTES)
    return f"#{digest.hexdigest()}"


class CountedReports:
    """The last half a million reports, in cells that all workers share.

    A report is known by 63 bits: 31 of the ranking's id, which are random, and a hash of the item that begins with
    other bits of it. A newer report can take the cell of an older one, which then counts again if it is repeated; an
    experiment reads the log, and counts it once in any case.
    """

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def fresh(self, recommendation: str, kind: str, items: Iterable[int | str]) -> dict[int | str, int]:
        """Return the items whose report was not counted, each with the mark for `count`."""
        salt, cells = _SALTS[kind], self._cells
        begin = int(recommendation[-16:-8], 16) ^ salt
        high = (int(recommendation[-8:], 16) ^ salt) >> 1 << 32 | 1 << 32  # never 0
        marks = {}
        for item in items:
            text = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else b"%d" % item
            mark = high | crc32(text, begin)
            if cells[_cell(mark)] != mark:
                marks[item] = mark
        return marks

    def has_any(self, marks: Iterable[int]) -> bool:
        """Return whether a report is counted by now."""
        cells = self._cells
        return any(cells[_cell(mark)] == mark for mark in marks)

    def count(self, marks: Iterable[int]) -> None:
        """Note that reports are counted."""
        cells = self._cells
        for mark in marks:
            cells[_cell(mark)] = mark


def _cell(mark: int) -> int:
    """Return the cell of a mark, by multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4).

    The low bits of a CRC would not do: if two items' CRCs agree in them, those of other pairs of items that differ by
    the same bits do too, so that many reports on a ranking would take each other's cells.
    """
    return (mark * 0x9E3779B97F4A7C15 & (1 << 64) - 1) >> _SHIFT
