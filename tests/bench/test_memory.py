"""Peak memory is that of the work alone, whatever the measuring process holds."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bench.memory import peak_memory, resident_peak
from mtaw_fast.errors import MtawError

MIB = 1 << 20


def allocate(mebibytes: int) -> None:
    np.ones(mebibytes * MIB, np.uint8)


def fail() -> None:
    raise ValueError("too\nmuch")


def vanish() -> None:
    os._exit(7)


def test_the_peak_is_what_the_work_touched_and_not_what_the_parent_holds():
    held = np.ones(600 * MIB, np.uint8)
    measured = peak_memory(allocate, 200)
    assert 195 * MIB < measured.added < 260 * MIB
    assert measured.peak < 500 * MIB < len(held)


def test_own_peak_counts_memory_that_is_gone_again():
    np.ones(300 * MIB, np.uint8)
    assert resident_peak() > 300 * MIB


@pytest.mark.parametrize(("work", "reason"), [(fail, "measuring fail: ValueError: too$"), (vanish, "status 7")])
def test_work_that_fails_says_so_in_one_line(work, reason):
    with pytest.raises(MtawError, match=reason) as caught:
        peak_memory(work)
    assert "\n" not in str(caught.value)
