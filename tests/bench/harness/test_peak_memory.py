"""Peak memory covers the work alone; the memory of a process tree includes its children."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.harness.peak_memory import peak_memory, peak_of_prepared, tree_resident
from mtaw_fast.errors import MtawError
from mtaw_fast.system import memory_use as memory

MIB = 1 << 20
_HOLDS = "import sys; held = bytearray(b'x') * (80 << 20); print('there', flush=True); sys.stdin.read()"


def allocate(mebibytes: int) -> None:
    np.ones(mebibytes * MIB, np.uint8)


def prepare_much_and_then(mebibytes: int) -> Callable[[], None]:
    allocate(300)
    held = np.ones(100 * MIB, np.uint8)

    def run() -> None:
        allocate(mebibytes)
        assert held[0] == 1

    return run


def fail() -> None:
    raise ValueError("too\nmuch")


def vanish() -> None:
    os._exit(7)


def test_the_peak_is_what_the_work_touched_and_not_what_the_parent_holds():
    held = np.ones(600 * MIB, np.uint8)
    measured = peak_memory(allocate, 200)
    assert 195 * MIB < measured.added < 260 * MIB
    assert measured.peak < 500 * MIB < len(held)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system cannot restart its peak")
def test_what_was_prepared_is_no_part_of_the_peak():
    measured = peak_of_prepared(prepare_much_and_then, 150)
    assert 145 * MIB < measured.added < 200 * MIB
    assert measured.before < 250 * MIB


def test_own_peak_counts_memory_that_is_gone_again():
    np.ones(300 * MIB, np.uint8)
    assert memory.peak_memory() > 300 * MIB


@pytest.mark.parametrize(("work", "reason"), [(fail, "measuring fail: ValueError: too$"), (vanish, "status 7")])
def test_work_that_fails_says_so_in_one_line(work, reason):
    with pytest.raises(MtawError, match=reason) as caught:
        peak_memory(work)
    assert "\n" not in str(caught.value)


def test_children_count_until_they_end() -> None:
    command = [sys.executable, "-c", _HOLDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        alone = tree_resident(child.pid)
        assert 80 << 20 < alone < 300 << 20
        assert tree_resident(os.getpid()) > alone + (10 << 20)
        child.communicate()
    assert tree_resident(child.pid) == 0
