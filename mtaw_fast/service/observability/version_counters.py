"""What is counted by bundle version, of which nobody knows beforehand which there will be: cells that versions claim.

A worker's row has room for so many versions; the one that was served longest ago makes room for a new one, and its
counts go on under `other`, so that sums do not fall. Feedback names versions, and may name any: only those that some
worker has served get cells, the rest is counted as `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

KINDS = ("answers", "fallback", "shown", "clicked", "bought")
OTHER = "other"
_VERSIONS = 16
_SIZE = 1 + len(KINDS)  # cells: the version, then a count of each kind
WIDTH = (1 + _VERSIONS) * _SIZE  # the first slot is OTHER's
_AT = {kind: place for place, kind in enumerate(KINDS, start=1)}

Counts = Mapping[str, Sequence[int]]  # by version or OTHER, a count of each kind


def version_cell(version: str) -> int:
    """A bundle version, 16 hex digits, as it stands in a cell."""
    return int.from_bytes(bytes.fromhex(version), "little", signed=True)


def version_text(cell: int) -> str:
    """The version in a cell."""
    return cell.to_bytes(8, "little", signed=True).hex()


class VersionCounters:
    """A worker's own. cells: of its row, WIDTH of them; what stands there already is counted on."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._places = {version: place for version, place in _slots(cells) if version != OTHER}  # longest ago first

    def serve(self, version: str) -> None:
        """Note that a version is served from now on."""
        place = self._places.pop(version, None)
        self._places[version] = self._claimed(version) if place is None else place

    def knows(self, version: str) -> bool:
        """Whether the version has cells."""
        return version in self._places

    def add(self, version: str, kind: str, by: int = 1) -> None:
        """Count `by` more for a version, or for OTHER where it has no cells."""
        self._cells[self._places.get(version, 0) + _AT[kind]] += by

    def _claimed(self, version: str) -> int:
        """The slot of a version that had none."""
        free = set(range(_SIZE, WIDTH, _SIZE)) - set(self._places.values())
        if free:
            place = min(free)
        else:
            place = self._places.pop(next(iter(self._places)))
            for at in _AT.values():
                self._cells[at] += self._cells[place + at]
                self._cells[place + at] = 0
        self._cells[place] = version_cell(version)
        return place


def read(cells: memoryview) -> dict[str, list[int]]:
    """What stands in the cells of a row."""
    return {version: cells[place + 1 : place + _SIZE].tolist() for version, place in _slots(cells)}


def added_up(rows: Iterable[Counts]) -> dict[str, list[int]]:
    """The counts of several rows."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        for version, counts in row.items():
            before = sums.get(version, [0] * len(KINDS))
            sums[version] = [one + more for one, more in zip(before, counts, strict=True)]
    return sums


def text_of(sums: Counts) -> Iterator[str]:
    """Prometheus' lines about them."""
    shown = {version: dict(zip(KINDS, counts, strict=True)) for version, counts in sorted(sums.items())}
    yield from _head("mtaw_bundle_answers_total", "counter", "Sessions that were ranked, by the bundle that did.")
    for version, counts in shown.items():
        yield f'mtaw_bundle_answers_total{{version="{version}"}} {counts["answers"]}'
    yield from _head("mtaw_bundle_fallback_answers_total", "counter", "Of those, without a known click.")
    for version, counts in shown.items():
        yield f'mtaw_bundle_fallback_answers_total{{version="{version}"}} {counts["fallback"]}'
    yield from _head("mtaw_feedback_items_total", "counter", "Recommended items that were shown, clicked, bought.")
    for version, counts in shown.items():
        for what in ("shown", "clicked", "bought"):
            yield f'mtaw_feedback_items_total{{version="{version}",what="{what}"}} {counts[what]}'
    yield from _head("mtaw_click_through_rate", "gauge", "Clicked items a shown one, since the service started.")
    for version, counts in shown.items():
        if counts["shown"]:
            yield f'mtaw_click_through_rate{{version="{version}"}} {counts["clicked"] / counts["shown"]:.6f}'


FAMILIES = 4  # of `text_of`


def _head(name: str, kind: str, told: str) -> Iterator[str]:
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"


def _slots(cells: memoryview) -> Iterator[tuple[str, int]]:
    """(version, where its slot begins) of the slots that are taken; OTHER's where it has counted anything."""
    if any(cells[1:_SIZE]):
        yield OTHER, 0
    for place in range(_SIZE, WIDTH, _SIZE):
        if cells[place]:
            yield version_text(cells[place]), place
