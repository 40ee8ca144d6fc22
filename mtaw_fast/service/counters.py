"""Whole numbers that every worker counts for itself and anyone can add up: one mapped file, a row a worker.

A worker writes to its own row alone, so nothing is locked and counting costs no more than a store. Rows outlive their
worker: the one that is started in the place of a dead one counts on, and sums never fall.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

_CELL = 8
_LOOK, _FIRST_ROW = 0, 1  # the shared cells come before the rows
PID, HEARTBEAT, VERSION, CONNECTIONS = range(4)  # of every row; what a metric counts in follows
FIRST = 4


class Counters:
    """rows x width cells of int64 in a file, mapped by every process of a service."""

    def __init__(self, path: Path, rows: int, width: int, row: int | None = None) -> None:
        """Map the file that `make` made. row: the one that `self.own` is, for a worker."""
        self.n_rows, self._width = rows, FIRST + width
        descriptor = os.open(path, os.O_RDWR)
        try:
            self._map = mmap.mmap(descriptor, _size(rows, width))
        finally:
            os.close(descriptor)
        self._cells = memoryview(self._map).cast("q")
        self.own = self.row(row or 0)
        self._others = [self.row(number) for number in range(rows) if number != row]

    @staticmethod
    def make(path: Path, rows: int, width: int) -> None:
        """A file of zeros."""
        with path.open("wb") as stream:
            stream.truncate(_size(rows, width))

    def row(self, number: int) -> memoryview:
        """The cells of one worker: PID, HEARTBEAT, VERSION, CONNECTIONS, then those that count."""
        begin = _FIRST_ROW + number * self._width
        return self._cells[begin : begin + self._width]

    def sums(self) -> list[int]:
        """Every counting cell, added up over the rows."""
        rows = [self.row(number)[FIRST:].tolist() for number in range(self.n_rows)]
        return [sum(cells) for cells in zip(*rows, strict=True)]

    def live_versions(self) -> list[str]:
        """The bundle version of every worker that is up."""
        rows = (self.row(number) for number in range(self.n_rows))
        return [version_text(row[VERSION]) for row in rows if row[PID]]

    def others_connections(self) -> list[int]:
        """How many connections each of the other workers that are up has."""
        return [row[CONNECTIONS] for row in self._others if row[PID]]

    def leave(self, number: int, gauges: Sequence[int]) -> None:
        """Note that the worker of a row is gone; its `gauges` (counting cells) go with it."""
        row = self.row(number)
        row[PID] = row[VERSION] = row[CONNECTIONS] = 0
        for cell in gauges:
            row[FIRST + cell] = 0

    @property
    def looks(self) -> int:
        """How often all workers have been asked to look for a new bundle."""
        return self._cells[_LOOK]

    def ask_to_look(self) -> None:
        """Ask all workers to look for a new bundle. Two that ask at once may count as one, which is as good."""
        self._cells[_LOOK] += 1


def version_cell(version: str) -> int:
    """A bundle version, 16 hex digits, as it stands in a cell."""
    return int.from_bytes(bytes.fromhex(version), "little", signed=True)


def version_text(cell: int) -> str:
    """The version in a cell."""
    return cell.to_bytes(_CELL, "little", signed=True).hex()


def _size(rows: int, width: int) -> int:
    return _CELL * (_FIRST_ROW + rows * (FIRST + width))
