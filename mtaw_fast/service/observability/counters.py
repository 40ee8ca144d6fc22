"""Whole numbers that every worker counts for itself and anyone can add up: shared memory, a row a worker.

A worker writes to its own row alone, so nothing is locked and counting costs no more than a store. Rows outlive their
worker: the one that is started in the place of a dead one counts on, and sums never fall.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

from mtaw_fast.service.observability import version_counters as version_counters
from mtaw_fast.service.observability.version_counters import version_text
from mtaw_fast.service.shared_memory import SharedMemory

_CELL = 8
_LOOK, _FIRST_ROW = 0, 1  # the shared cells come before the rows
PID, HEARTBEAT, CONNECTIONS, VERSION = range(4)  # of every row; what a metric counts in follows
MOST_BUNDLES = 4  # served side by side: each has a cell from VERSION on, 0 where there is none
FIRST = VERSION + MOST_BUNDLES


class Counters:
    """rows x width cells of int64 in memory that every process of a service maps, and those by bundle version."""

    def __init__(self, memory: SharedMemory, rows: int, width: int, row: int | None = None) -> None:
        """Map what `make` made. row: the one that `self.own` is, for a worker."""
        self.n_rows, self._width = rows, FIRST + width + version_counters.WIDTH
        self._cells = memoryview(mmap.mmap(memory.descriptor, _size(rows, width))).cast("q")
        self.own = self.row(row or 0)
        self._others = [self.row(number) for number in range(rows) if number != row]

    @staticmethod
    def make(rows: int, width: int) -> SharedMemory:
        """Zeros. Raises MtawError where there is no memory for them."""
        return SharedMemory.make("mtaw-counters", _size(rows, width))

    def row(self, number: int) -> memoryview:
        """The cells of one worker: PID, HEARTBEAT, CONNECTIONS, its bundles' versions, those that count, and those that
        count by version."""
        begin = _FIRST_ROW + number * self._width
        return self._cells[begin : begin + self._width]

    def sums(self) -> list[int]:
        """Every counting cell, added up over the rows."""
        rows = [self.row(number)[FIRST : -version_counters.WIDTH].tolist() for number in range(self.n_rows)]
        return [sum(cells) for cells in zip(*rows, strict=True)]

    def by_version(self) -> dict[str, list[int]]:
        """See `version_counters`: the counts of every bundle version, added up over the rows."""
        return version_counters.added_up(
            version_counters.read(self.row(number)[-version_counters.WIDTH :]) for number in range(self.n_rows)
        )

    def live_versions(self) -> list[str]:
        """The bundle versions of every worker that is up: one, or several where it serves bundles side by side."""
        rows = (self.row(number) for number in range(self.n_rows))
        served = (dict.fromkeys(filter(None, row[VERSION:FIRST])) for row in rows if row[PID])
        return [version_text(cell) for cells in served for cell in cells]

    def others_connections(self) -> list[int]:
        """How many connections each of the other workers that are up has."""
        return [row[CONNECTIONS] for row in self._others if row[PID]]

    def leave(self, number: int, gauges: Sequence[int]) -> None:
        """Note that the worker of a row is gone; its `gauges` (counting cells) go with it."""
        row = self.row(number)
        row[PID] = row[CONNECTIONS] = 0
        for cell in range(VERSION, FIRST):
            row[cell] = 0
        for cell in gauges:
            row[FIRST + cell] = 0

    @property
    def looks(self) -> int:
        """How often all workers have been asked to look for a new bundle."""
        return self._cells[_LOOK]

    def ask_to_look(self) -> None:
        """Ask all workers to look for a new bundle. Two that ask at once may count as one, which is as good."""
        self._cells[_LOOK] += 1


def _size(rows: int, width: int) -> int:
    return _CELL * (_FIRST_ROW + rows * (FIRST + width + version_counters.WIDTH))
