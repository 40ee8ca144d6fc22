"""What a power loss leaves is what POSIX allows."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from tests.simulation.disk import Disk
from tests.simulation.simulated_host import SimulatedHost

SEEDS = range(40)


def world(folder: Path) -> SimulatedHost:
    return SimulatedHost(folder, 0, lambda steps: None)


def left_after(folder: Path, work: object) -> set[tuple[tuple[str, bytes], ...]]:
    """Return the files, with their bytes, that a power loss leaves after some work, for many seeds."""
    outcomes = set()
    for seed in SEEDS:
        root = folder / str(seed)
        root.mkdir()
        host = world(root)
        work(host, root)  # type: ignore[operator]
        host.disk.lose_power(Random(seed))
        outcomes.add(tuple(sorted((path.name, path.read_bytes()) for path in root.rglob("*") if path.is_file())))
    return outcomes


def test_bytes_and_names_survive_only_if_they_were_flushed(tmp_path: Path) -> None:
    def unflushed(one: SimulatedHost, root: Path) -> None:
        file = one.open_file(root / "a", os.O_WRONLY | os.O_CREAT)
        one.write(file, b"x" * 10)
        one.close(file)

    def flushed(one: SimulatedHost, root: Path) -> None:
        file = one.open_file(root / "a", os.O_WRONLY | os.O_CREAT)
        one.write(file, b"x" * 10)
        one.fsync(file)
        one.write(file, b"y" * 10)
        folder = one.open_file(root, os.O_RDONLY)
        one.fsync(folder)
        for descriptor in (file, folder):
            one.close(descriptor)

    (tmp_path / "1").mkdir(), (tmp_path / "2").mkdir()
    outcomes = left_after(tmp_path / "1", unflushed)
    assert () in outcomes, "the name may be lost"
    assert (("a", b""),) in outcomes
    assert any(files and 0 < len(files[0][1]) < 10 for files in outcomes), "a write may be torn"
    outcomes = left_after(tmp_path / "2", flushed)
    assert all(files[0][1].startswith(b"x" * 10) for files in outcomes)
    assert (("a", b"x" * 10),) in outcomes
    assert (("a", b"x" * 10 + b"y" * 10),) in outcomes


def test_a_rename_is_all_or_nothing_and_a_failed_flush_loses_writes(tmp_path: Path) -> None:
    def renamed(one: SimulatedHost, root: Path) -> None:
        for name in ("old", "new"):
            file = one.open_file(root / name, os.O_WRONLY | os.O_CREAT)
            one.write(file, name.encode())
            one.fsync(file)
            one.close(file)
        folder = one.open_file(root, os.O_RDONLY)
        one.fsync(folder)
        one.close(folder)
        one.replace(root / "new", root / "old")

    assert left_after(tmp_path, renamed) == {(("new", b"new"), ("old", b"old")), (("old", b"new"),)}


def test_a_failed_flush_is_reported_once_by_each_descriptor(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    files = [os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT) for _ in range(2)]
    disk.created(str(tmp_path / "a"), os.fstat(files[0]).st_ino)
    for file in files:
        disk.opened(file)
    disk.wrote(files[0], 0, b"x")
    disk.failed(files[0], Random(0))
    assert [disk.flushed(files[1]), disk.flushed(files[1]), disk.flushed(files[0])] == [False, True, True]
    for file in files:
        os.close(file)
