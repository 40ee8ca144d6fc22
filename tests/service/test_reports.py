"""Reports count once: by ranking, kind and item, in every process."""

from __future__ import annotations

import random
import subprocess
import sys

from mtaw_fast.service.observability.counters import REPORT_CELLS
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.ranking_ids import new_id
from mtaw_fast.service.recording import CountedReports


def test_a_report_counts_once_in_all_workers() -> None:
    memory = Metrics.make(2)
    first, second = (CountedReports(Metrics.open(memory, 2, row).counters.reports) for row in range(2))
    name, other = new_id("0" * 16), new_id("0" * 16)
    items: list[int | str] = ["a", "b", 7, -(2**63), "\ud800"]
    fresh = first.fresh(name, "clicked", items)
    assert list(fresh) == items
    first.count([fresh["a"], fresh[7]])
    for worker in (first, second):
        assert list(worker.fresh(name, "clicked", items)) == ["b", -(2**63), "\ud800"]
        assert list(worker.fresh(name, "bought", items)) == items
        assert list(worker.fresh(other, "clicked", items)) == items


def test_many_reports_do_not_hide_each_other() -> None:
    counted = CountedReports(memoryview(bytearray(8 * REPORT_CELLS)).cast("q"))
    items = [f"item-{number}" for number in range(20)]
    generator = random.Random(0)
    # The first number is of a ranking whose CRCs have the same 19 low bits for 8 pairs of these items.
    for digits in [0x6258CE894634EDFF, *(generator.getrandbits(64) for _ in range(3_000))]:
        name = f"{'0' * 16}-{digits:036x}"
        fresh = counted.fresh(name, "shown", items)
        assert len(fresh) == 20
        counted.count(fresh.values())
        assert len(counted.fresh(name, "shown", items)) <= 1  # two marks of one ranking seldom share a cell


def test_marks_are_the_same_in_every_process() -> None:
    counted = CountedReports(memoryview(bytearray(8 * REPORT_CELLS)).cast("q"))
    name = "0123456789abcdef-75bca19cf21610cd7fe8126a800b45fa97b1"
    code = (
        "from mtaw_fast.service.recording import *\n"
        "cells = memoryview(bytearray(8 * REPORT_CELLS)).cast('q')\n"
        f"print(*CountedReports(cells).fresh({name!r}, 'shown', ['a', 5]).values())"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.split() == [str(mark) for mark in counted.fresh(name, "shown", ["a", 5]).values()]
