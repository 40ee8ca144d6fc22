"""Counts by bundle version, in slots of every worker's row."""

from __future__ import annotations

import pytest

from mtaw_fast.service.observability.counters import (
    KINDS,
    VERSION,
    VERSION_CELLS,
    VersionCounters,
    added_up,
    read,
    version_cell,
)
from mtaw_fast.service.observability.metrics import Metrics


def name(number: int) -> str:
    """Return a bundle version."""
    return f"{number:016x}"


@pytest.fixture
def cells() -> memoryview:
    """The cells of one worker."""
    return memoryview(bytearray(8 * VERSION_CELLS)).cast("q")


def test_a_new_worker_continues_the_counts_of_its_row(cells: memoryview) -> None:
    counters = VersionCounters(cells)
    counters.serve(name(1))
    counters.add(name(1), "shown", 3)
    restarted = VersionCounters(cells)
    assert restarted.knows(name(1))
    restarted.add(name(1), "shown", 4)
    assert read(cells) == {name(1): [7 if kind == "shown" else 0 for kind in KINDS]}


def test_the_version_served_longest_ago_loses_its_slot_and_sums_stay(cells: memoryview) -> None:
    counters = VersionCounters(cells)
    for number in range(1, 41):
        counters.serve(name(number))
        counters.serve(name(1))  # is served all the time
        counters.add(name(number), "clicked", number)
    by_version = read(cells)
    assert len(by_version) == 17
    assert {name(1), name(40), name(26)} <= set(by_version)
    assert name(2) not in by_version
    assert sum(counts[3] for counts in by_version.values()) == sum(range(1, 41))
    assert by_version["other"][3] == sum(range(2, 26))


def test_rows_with_different_versions_add_up() -> None:
    ones, numbers = [1] * len(KINDS), [number for number, _ in enumerate(KINDS)]
    sums = added_up([{name(1): ones}, {name(1): numbers, name(2): ones}, {}])
    assert sums == {name(1): [number + 1 for number in numbers], name(2): ones}


def test_frequent_reloads_of_one_bundle_keep_the_slot_of_another() -> None:
    worker = Metrics.open(Metrics.make(1), 1, 0)
    steady, row = name(99), worker.counters.own
    row[VERSION + 1] = version_cell(steady)
    worker.serve(steady)
    for number in range(1, 40):  # a night each
        row[VERSION] = version_cell(name(number))
        worker.serve(name(number))
    worker.count_by_version(steady, "answers", 5)
    assert f'mtaw_bundle_answers_total{{version="{steady}"}} 5' in worker.text()
    assert 'version="other"' not in worker.text()


def test_a_version_that_another_worker_serves_is_known() -> None:
    shared = Metrics.make(2)
    first, second = (Metrics.open(shared, 2, row) for row in range(2))
    first.serve(name(7))
    second.count_first_by_version(name(7), {"shown": 4, "clicked": 1})
    second.count_first_by_version(name(8), {"shown": 2})
    first.count_by_version(name(7), "shown", 4)
    for worker in (first, second):
        text = worker.text()
        assert f'mtaw_click_through_rate{{version="{name(7)}"}} 0.125000' in text
        assert 'mtaw_feedback_items_total{version="other",what="shown"} 2' in text
        assert name(8) not in text
