"""Sealed files: later changes of the file on disk have no effect, and the workers of a service share one copy."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import BundleError, DataError, UsageError
from mtaw_fast.storage.sealed_file import open_sealed
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from tests.support.cache import ROOT
from tests.support.random_bundle import save_random

SERVE = """
import sys
from mtaw_fast.recommender import Recommender
rec = Recommender.load(sys.argv[1])
before = rec.recommend(["sku-1", "sku-2"], 50).items
print("loaded", flush=True)
sys.stdin.readline()
assert rec.recommend(["sku-1", "sku-2"], 50).items == before
assert len(rec.similar_items("sku-5", 50).items) == 50
assert rec.bundle.weights["item_embedding"].sum() == rec.bundle.weights["item_embedding"].sum()
print("answered", flush=True)
"""

SERVE_IN_C = """
import sys
from tests.support.libmtaw import Client
with Client(sys.argv[1]):
    print("loaded", flush=True)
    sys.stdin.readline()
"""


def served(folder: Path, mapping: str, program: str = SERVE) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT,
        env=os.environ | {"MTAW_MAPPING": mapping},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "loaded\n"
    return process


@pytest.mark.parametrize(("mapping", "survives"), [("copy", True), ("map", False)])
def test_a_bundle_copied_over_a_served_one(tmp_path: Path, mapping: str, survives: bool) -> None:
    """Files with the old bundle's names are truncated in place, as by `cp`. That kills a process with mapped files."""
    save_random(tmp_path / "served", n_items=20_000, max_session_length=6)
    process = served(tmp_path / "served", mapping)
    for path in (tmp_path / "served").iterdir():
        os.truncate(path, 0)
    out, err = process.communicate("go on\n", timeout=60)
    if survives:
        assert (out, process.returncode) == ("answered\n", 0), err
    else:
        assert process.returncode == -signal.SIGBUS


def test_workers_share_one_copy(tmp_path: Path) -> None:
    """Processes with one parent map the same memory, found through /proc, in Python and in C."""
    save_random(tmp_path / "bundle", n_items=2_000, max_session_length=6)
    workers = [served(tmp_path / "bundle", "copy", program) for program in (SERVE, SERVE, SERVE_IN_C)]
    try:
        copies = [inodes(worker.pid) for worker in workers]
        assert len(copies[0]) == len(list((tmp_path / "bundle").glob("*.safetensors")))
        assert copies[0] == copies[1] == copies[2]
        bundle = Bundle.load(tmp_path / "bundle")
        assert bundle.n_items == 2_000
    finally:
        for worker in workers:
            worker.communicate("go on\n", timeout=60)


def inodes(process: int) -> set[int]:
    """Return the inodes of the copies that a process has mapped."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {int(line.split()[4]) for line in lines if "/memfd:mtaw-" in line}


def test_threads_share_one_copy(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"a": np.arange(5_000_000)})
    arrays: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: arrays.append(open_sealed(tmp_path / "file").data)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({data.ctypes.data for data in arrays}) == 1


def test_a_copy_stays_what_it_was_and_goes_with_its_last_array(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"a": np.arange(100_000)})
    array = map_tensors(path)["a"]
    assert len(inodes(os.getpid())) >= 1
    before = inodes(os.getpid())
    with path.open("r+b") as stream:  # in place: the same inode
        stream.write(b"\0" * 1000)
    assert np.array_equal(array, np.arange(100_000))
    assert not array.flags.writeable
    with pytest.raises(DataError):
        map_tensors(path)  # the change is noticed: no old copy is returned
    del array
    assert len(inodes(os.getpid()) & before) < len(before)


def test_a_library_that_opens_files_itself_reads_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"as it was")
    file = open_sealed(path)
    path.write_bytes(b"changed")
    assert file.readable.read_bytes() == b"as it was"
    assert open_sealed(path, mapping="map").readable == path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    return path


def opened_while(path: Path, change: Callable[[], object]) -> bytes:
    """Open a file, change something before its first bytes are copied, and return the copy."""
    results: list[Any] = []

    def read() -> None:
        try:
            results.append(open_sealed(path).data.tobytes())
        except DataError as error:
            results.append(error)

    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as another worker that copies it
        before = open_files()[str(path)]
        thread = threading.Thread(target=read)
        thread.start()
        while open_files()[str(path)] == before:
            time.sleep(0.001)
        time.sleep(0.02)  # from its opening to its status
        change()
    thread.join()
    if isinstance(results[0], DataError):
        raise results[0]
    return bytes(results[0])


@pytest.mark.parametrize("left", [0, 5, 4096, 1_000_000, None])
def test_a_file_changed_while_it_is_copied_is_refused_by_name(file: Path, left: int | None) -> None:
    def change() -> None:
        if left is not None:
            os.truncate(file, left)
        else:  # as long as before
            file.write_bytes(b"y" * 3_000_000)
            os.utime(file, ns=(1, 1))

    with pytest.raises(DataError, match=rf"{file} changed while it was read"):
        opened_while(file, change)


@pytest.mark.parametrize("taken", ["unlinked", "replaced"])
def test_a_file_that_loses_its_name_while_it_is_copied_is_copied(file: Path, taken: str) -> None:
    """As if a bundle is saved over one that is being loaded: the bytes are those of the opened file."""
    newer = file.with_name("newer")
    newer.write_bytes(b"y" * 3000)
    change = file.unlink if taken == "unlinked" else lambda: newer.rename(file)
    assert opened_while(file, change) == b"x" * 3_000_000


def open_files() -> Counter[str]:
    return Counter(os.path.realpath(path) for path in Path("/proc/self/fd").iterdir())


def test_no_memory_for_a_copy_is_one_line(file: Path) -> None:
    before, (soft, hard) = open_files(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(
            DataError, match=r"cannot copy .*file \(3,000,000 bytes\) into memory: File too large.*MTAW_MAPPING=map"
        ):
            open_sealed(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not open_files() - before
    assert len(open_sealed(file, mapping="map").data) == 3_000_000


def test_a_child_of_a_fork_does_not_wait_for_a_thread_of_its_parent(file: Path) -> None:
    """Another thread opens and frees copies, and locks the file for that, while the process forks."""
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            open_sealed(file)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(300):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                open_sealed(file)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        ended.set()
        thread.join()


def test_other_mappings_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="mapping='mmap' is not a mapping; choose one of copy, map"):
        open_sealed(file, mapping="mmap")
    monkeypatch.setenv("MTAW_MAPPING", "no")
    with pytest.raises(UsageError, match="MTAW_MAPPING='no' is not a mapping"):
        open_sealed(file)


def test_what_is_no_regular_file_or_too_long_is_refused_at_once(tmp_path: Path) -> None:
    """Reading a pipe would block forever; copying a sparse file of a terabyte would take an hour."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sparse").write_bytes(b"")
    os.truncate(tmp_path / "sparse", 1 << 40)
    for name, message in (
        ("pipe", "not a regular file"), (".", "not a regular file"), ("none", "is missing"), ("pipe\0", "a zero byte"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            open_sealed(tmp_path / name)
    with pytest.raises(DataError, match="not a whole safetensors file"):
        map_tensors(tmp_path / "sparse")
    write_tensors(tmp_path / "long", {"a": np.arange(9)})
    os.truncate(tmp_path / "long", 1 << 40)
    with pytest.raises(DataError, match="bytes more than its header describes"):
        map_tensors(tmp_path / "long")


@pytest.mark.parametrize("part", ["manifest", "weights", "ids"])
@pytest.mark.parametrize("verify", [True, False])
def test_bundles_with_pipes_or_sparse_parts_are_refused_at_once(tmp_path: Path, part: str, verify: bool) -> None:
    save_random(tmp_path / "bundle", n_items=50, max_session_length=6)
    path = next((tmp_path / "bundle").glob(f"{'items' if part == 'ids' else part}*"))
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="not a regular file"):
        Bundle.load(tmp_path / "bundle", verify=verify)
    path.unlink()
    path.write_bytes(whole)
    os.truncate(path, 1 << 40)
    with pytest.raises(BundleError, match=path.name):
        Bundle.load(tmp_path / "bundle", verify=verify)
    shutil.rmtree(tmp_path / "bundle")
