"""Which reports on a ranking's items have been counted: each counts once, in all workers together."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from mtaw_fast.experiment.lines import KINDS
from mtaw_fast.service.observability.counters import REPORT_CELLS

_SHIFT = 65 - REPORT_CELLS.bit_length()  # of a 64-bit product, to its upper bits: as many as number the cells
_SALTS = {kind: 0x9E3779B9 * number & 0xFFFFFFFF for number, kind in enumerate(KINDS, start=1)}


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
