"""Processors by affinity and by quota, from files in the kernel's format."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mtaw_fast.system.cpus import usable_cpus


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
