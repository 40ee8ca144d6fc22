"""Available memory by the host and by the cgroups, from files in the kernel's format; peak and freed memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.system.memory_use import available_memory, peak_memory

MEMINFO = "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:  4000 kB\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/pod/box\n", {}, 4000 << 10),
        ("0::/pod/box\n", {"pod/box/memory.max": "max\n", "pod/box/memory.current": "5\n"}, 4000 << 10),
        ("0::/pod/box\n", {"pod/box/memory.max": "900\n", "pod/box/memory.current": "500\n"}, 400),
        ("0::/pod/box\n", {"pod/memory.max": "900\n", "pod/memory.current": "1500\n"}, 0),
        ("9:memory:/pod\n", {"memory/pod/memory.limit_in_bytes": "70\n", "memory/pod/memory.usage_in_bytes": "9"}, 61),
        ("9:cpu:/pod\n", {"cpu/pod/memory.limit_in_bytes": "70\n", "cpu/pod/memory.usage_in_bytes": "9"}, 4000 << 10),
    ],
)
def test_the_least_counts(tmp_path: Path, own: str, files: dict[str, str], expected: int) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_text(own)
    (tmp_path / "meminfo").write_text(MEMINFO)
    assert available_memory(tmp_path / "meminfo", tmp_path / "cgroups", tmp_path / "own") == expected


def test_a_system_that_reports_nothing(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None
    available = available_memory()
    assert available is None or available > 0


def test_the_peak_of_a_process(tmp_path: Path) -> None:
    """Measured in a new process, as the peak of this one is unknown."""
    code = """if True:
        from mtaw_fast.system.memory_use import peak_memory
        before = peak_memory()
        block = bytearray(b"x") * (200 << 20)
        print(before, peak_memory())
    """
    before, after = map(int, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert before < 150 << 20
    assert 200 << 20 <= after < before + (220 << 20)
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  1234 kB\n")
    assert peak_memory(status) == 1234 << 10
    assert peak_memory(tmp_path / "none") > 10 << 20  # by getrusage, without such a file


def test_freed_memory_goes_back_to_the_system() -> None:
    """Blocks that are too small for mmap, below one that stays: glibc keeps them until malloc_trim."""
    code = """
import numpy as np
from mtaw_fast.system.memory_use import give_back_freed

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

blocks = [np.ones(100_000, np.uint8) for _ in range(2000)]
blocks = blocks[-1:]
before = anonymous()
given = give_back_freed()
print(int(given), before - anonymous())
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    is_given_back, kilobytes = map(int, process.stdout.split())
    if not is_given_back:
        pytest.skip("the C library has no malloc_trim")
    assert kilobytes > 150_000
