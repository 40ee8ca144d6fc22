"""Which reports on a ranking's items have been counted: each counts once, in all workers together."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from mtaw_fast.experiment.lines import KINDS
from mtaw_fast.service.observability.counters import REPORT_CELLS

_SALTS = {what: 0x9E3779B9 * number & 0xFFFFFFFF for number, what in enumerate(KINDS, start=1)}


class CountedReports:
    """The last half a million reports, in cells that all workers share.

    A report is known by 64 bits: of the ranking's id, which are random, of its kind and of the item. A newer report can
    take the cell of an older one, which then counts again if it is repeated; an experiment reads the log, and counts it
    once in any case.
    """

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def marks_of(self, recommendation: str, what: str, items: Sequence[int | str]) -> list[int]:
        """Return the mark of each report."""
        salt = _SALTS[what]
        first, second = int(recommendation[-16:-8], 16) ^ salt, int(recommendation[-8:], 16) ^ salt
        found = []
        for item in items:
            text = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else b"%d" % item
            found.append(crc32(text, first) << 31 | crc32(text, second) >> 1 | 1)  # 63 bits, and never 0
        return found

    def is_counted(self, mark: int) -> bool:
        """Return whether a report was counted."""
        return self._cells[_place(mark)] == mark

    def count(self, marks: Sequence[int]) -> None:
        """Note that reports are counted."""
        for mark in marks:
            self._cells[_place(mark)] = mark


def _place(mark: int) -> int:
    return (mark ^ mark >> 29) * 0x9E3779B1 >> 7 & REPORT_CELLS - 1
