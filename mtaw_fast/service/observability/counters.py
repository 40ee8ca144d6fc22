"""Counters in shared memory: every worker counts in a row of its own, and every process can sum the rows.

A worker writes only to its own row, so that no lock is needed and counting costs one store. A row outlives its worker:
the replacement continues it, and sums never fall.

A row ends with counts by placement, and by bundle version. Which there will be is not known beforehand, so they claim
slots. When all slots are taken, the version that was served longest ago loses its slot and its counts move to `other`,
so that sums do not fall. Feedback may name any version: only versions that some worker has served get slots, all
others count as `other`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mtaw_fast.service.resources import SharedMemory
from mtaw_fast.service.settings import MAX_BUNDLES

_CELL = 8
_RELOADS, _FIRST_ROW = 0, 1  # the shared cell comes before the rows
PID, HEARTBEAT, CONNECTIONS, VERSION = range(4)  # the first cells of every row; metrics follow
FIRST = VERSION + MAX_BUNDLES  # each bundle that is served has a cell from VERSION on, 0 if there is none

KINDS = (
    "answers", "fallback", "shown", "clicked", "carted", "bought", "value", "ranked_items", "new_items",
    "scored", "hits",
)  # fmt: skip
OTHER = "other"
_SLOTS = 16  # versions that a row can hold
_SLOT = 1 + len(KINDS)  # cells of a slot: the version, then a count of each kind
VERSION_CELLS = (1 + _SLOTS) * _SLOT  # the first slot is that of OTHER
_AT = {kind: offset for offset, kind in enumerate(KINDS, start=1)}

# After the rows, cells that every worker writes: reports that were counted already (`reports`), and for each bundle
# the hour in which each item was last ranked, and the bundle's version (`coverage`). Two writers at once lose at most
# one mark.
REPORT_CELLS = 1 << 19
COVERAGE_SLOTS = 1 << 20
_COVERAGE_BYTES = 2 * (COVERAGE_SLOTS + 4)

Counts = Mapping[str, Sequence[int]]  # a count of each kind, by version or OTHER


class Counters:
    """rows x width int64 cells in memory that all processes of a service share, and the counts by bundle version."""

    def __init__(self, memory: SharedMemory, rows: int, width: int, row: int | None = None) -> None:
        """Map what `make` made. row: the worker's own, as `self.own`."""
        self.n_rows, self._width = rows, FIRST + width + 2 * VERSION_CELLS
        view = memoryview(mmap.mmap(memory.descriptor, _size(rows, width)))
        counts = _counts_size(rows, width)
        self._cells = view[:counts].cast("q")
        self.reports = view[counts : counts + _CELL * REPORT_CELLS].cast("q")
        begin = counts + _CELL * REPORT_CELLS
        self.coverage = [
            view[begin + bundle * _COVERAGE_BYTES : begin + (bundle + 1) * _COVERAGE_BYTES].cast("H")
            for bundle in range(MAX_BUNDLES)
        ]
        self.own = self.row(row or 0)
        self._others = [self.row(number) for number in range(rows) if number != row]

    @staticmethod
    def make(rows: int, width: int) -> SharedMemory:
        """Return zeroed memory for `rows` workers. Raises MtawError if there is not enough memory."""
        return SharedMemory.make("mtaw-counters", _size(rows, width))

    def row(self, number: int) -> memoryview:
        """Return a worker's cells: PID, HEARTBEAT, CONNECTIONS, its bundles' versions, all counts as above."""
        begin = _FIRST_ROW + number * self._width
        return self._cells[begin : begin + self._width]

    def sums(self) -> list[int]:
        """Return every count, summed over the rows."""
        rows = [self.row(number)[FIRST : -2 * VERSION_CELLS].tolist() for number in range(self.n_rows)]
        return [sum(cells) for cells in zip(*rows, strict=True)]

    def by_version(self) -> dict[str, list[int]]:
        """Return the counts of every bundle version, summed over the rows; a count of each of `KINDS`."""
        return added_up(read(self.row(number)[-VERSION_CELLS:]) for number in range(self.n_rows))

    def by_placement(self) -> dict[str, list[int]]:
        """Return the counts by placement, whose keys look like versions, as `by_version` does."""
        rows = (self.row(number)[-2 * VERSION_CELLS : -VERSION_CELLS] for number in range(self.n_rows))
        return added_up(map(read, rows))

    def live_versions(self) -> list[str]:
        """Return the versions that live workers serve, those of each worker in turn."""
        rows = (self.row(number) for number in range(self.n_rows))
        served = (dict.fromkeys(filter(None, row[VERSION:FIRST])) for row in rows if row[PID])
        return [version_text(cell) for cells in served for cell in cells]

    def others_connections(self) -> list[int]:
        """Return the number of connections of each other live worker."""
        return [row[CONNECTIONS] for row in self._others if row[PID]]

    def leave(self, number: int, gauges: Sequence[int]) -> None:
        """Note that the worker of a row is gone, and set its `gauges` (cells of the row) to 0."""
        row = self.row(number)
        row[PID] = row[CONNECTIONS] = 0
        for cell in range(VERSION, FIRST):
            row[cell] = 0
        for cell in gauges:
            row[FIRST + cell] = 0

    @property
    def reload_requests(self) -> int:
        """How often all workers have been asked to look for a new bundle."""
        return self._cells[_RELOADS]

    def request_reload(self) -> None:
        """Ask all workers to look for a new bundle. Two requests at once may count as one, with the same effect."""
        self._cells[_RELOADS] += 1


def _counts_size(rows: int, width: int) -> int:
    return _CELL * (_FIRST_ROW + rows * (FIRST + width + 2 * VERSION_CELLS))


def _size(rows: int, width: int) -> int:
    return _counts_size(rows, width) + _CELL * REPORT_CELLS + MAX_BUNDLES * _COVERAGE_BYTES


def version_cell(version: str) -> int:
    """Return a bundle version (16 hex digits) as the int64 of a cell."""
    return int.from_bytes(bytes.fromhex(version), "little", signed=True)


def version_text(cell: int) -> str:
    """Return the bundle version in a cell."""
    return cell.to_bytes(8, "little", signed=True).hex()


class VersionCounters:
    """A worker's counts by bundle version. cells: the last VERSION_CELLS of its row; counts in them continue."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._begins = {version: begin for version, begin in _slots(cells) if version != OTHER}  # longest ago first

    def serve(self, version: str) -> None:
        """Note that a version is served from now on."""
        begin = self._begins.pop(version, None)
        self._begins[version] = self._claimed(version) if begin is None else begin

    def knows(self, version: str) -> bool:
        """Return whether the version has a slot."""
        return version in self._begins

    def add(self, version: str, kind: str, by: int = 1) -> None:
        """Count `by` more for a version, or for OTHER if the version has no slot."""
        self._cells[self._begins.get(version, 0) + _AT[kind]] += by

    def _claimed(self, version: str) -> int:
        """Return a slot for a version that has none."""
        free = set(range(_SLOT, VERSION_CELLS, _SLOT)) - set(self._begins.values())
        if free:
            begin = min(free)
        else:
            begin = self._begins.pop(next(iter(self._begins)))
            for offset in _AT.values():
                self._cells[offset] += self._cells[begin + offset]
                self._cells[begin + offset] = 0
        self._cells[begin] = version_cell(version)
        return begin


def read(cells: memoryview) -> dict[str, list[int]]:
    """Return the counts by version in the last cells of a row."""
    return {version: cells[begin + 1 : begin + _SLOT].tolist() for version, begin in _slots(cells)}


def added_up(rows: Iterable[Counts]) -> dict[str, list[int]]:
    """Return the sums of the counts of several rows."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        for version, counts in row.items():
            totals = sums.get(version, [0] * len(KINDS))
            sums[version] = [total + count for total, count in zip(totals, counts, strict=True)]
    return sums


def _slots(cells: memoryview) -> Iterator[tuple[str, int]]:
    """Yield (version, begin of its slot) of the slots in use; OTHER's only once it has counted anything."""
    if any(cells[1:_SLOT]):
        yield OTHER, 0
    for begin in range(_SLOT, VERSION_CELLS, _SLOT):
        if cells[begin]:
            yield version_text(cells[begin]), begin
