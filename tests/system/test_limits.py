"""Processors and memory that this process may use, from files in the kernel's format; peak and freed memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.system.cpus import usable_cpus
from mtaw_fast.system.memory_use import available_memory, peak_memory


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which this process may use 8 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def usable(folder: Path, own: str, files: dict[str, str]) -> int:
    """Return the processors with these files of cgroups."""
    for name, text in files.items():
        path = folder / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    return usable_cpus(folder / "cgroups", folder / "own")


V2 = "0::/pod/box\n"
V1 = "9:memory:/pod/box\n4:cpu,cpuacct:/pod/box\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {}, 8),
        (V2, {"pod/box/cpu.max": "max 100000\n"}, 8),
        (V2, {"pod/box/cpu.max": "300000 100000\n"}, 3),
        (V2, {"pod/box/cpu.max": "350000 100000\n"}, 3),
        (V2, {"pod/box/cpu.max": "50000 100000\n"}, 1),
        (V2, {"pod/box/cpu.max": "1600000 100000\n"}, 8),
        (V2, {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"}, 2),
        (V2, {"pod/box/cpu.max": "100000 50000\n", "pod/cpu.max": "600000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/not/mounted/here\n", {"cpu.max": "200000 100000\n"}, 2),  # a container that sees its own cgroup as root
        (V1, {"cpu,cpuacct/pod/box/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/pod/box/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu,cpuacct/pod/box/cpu.cfs_quota_us": "400000\n",
              "cpu,cpuacct/pod/box/cpu.cfs_period_us": "100000\n"}, 4),
        (V1, {"cpu/pod/cpu.cfs_quota_us": "250000\n", "cpu/pod/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpuset:/pod\n", {"cpuset/pod/cpu.cfs_quota_us": "100000\n",
                             "cpuset/pod/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)  # fmt: skip
def test_the_least_of_all_limits_counts(tmp_path: Path, own: str, files: dict[str, str], expected: int) -> None:
    assert usable(tmp_path, own, files) == expected


def test_affinity_counts_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable(tmp_path, V2, {"pod/box/cpu.max": "300000 100000\n"}) == 1


def test_without_cgroups_affinity_alone_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path, tmp_path / "none") == 8


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
