"""Available memory by the machine and by its cgroups, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.storage.memory import available_memory

MACHINE = "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:  4000 kB\n"


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
    (tmp_path / "machine").write_text(MACHINE)
    assert available_memory(tmp_path / "machine", tmp_path / "cgroups", tmp_path / "own") == expected


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert available_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None
    assert available_memory() is None or available_memory() > 0
