"""The host as the event log and bundles use it: clock, files, locks, sockets, random names, threads and processes.

What is kept on disk, and when, goes through these functions and nothing else. So a test can put others in their place
that lose writes, fail and stop anywhere (`tests.simulation`). Each only passes its call on, most to the function of
`os` or the method of `Path` that it is named after.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Protocol


class Waitable(Protocol):
    """An event, as in `threading` or `system.fork_lock`."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return when the event is set, or after some seconds."""
        ...


Waits = Iterator[tuple[Waitable, float | None]]  # what a loop waits for: an event, or so many seconds


# Clock and random names


def time_ns() -> int:
    """Return the Unix time in nanoseconds."""
    return time.time_ns()


def monotonic() -> float:
    """Return seconds of a clock that nobody sets."""
    return time.monotonic()


def new_id() -> str:
    """Return an id that no other call returns."""
    return uuid.uuid4().hex


# Threads, processes, sockets


def loop(waits: Waits, name: str) -> threading.Thread:
    """Return a thread, not started, that runs a generator and waits for what it yields before it goes on."""
    return threading.Thread(target=_run, args=(waits,), name=name, daemon=True)


def _run(waits: Waits) -> None:
    for event, seconds in waits:
        event.wait(seconds)


def start_process(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program without input."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def lower_priority(by: int) -> None:
    os.nice(by)


def pool(workers: int) -> ThreadPoolExecutor:
    """Return threads for short reads."""
    return ThreadPoolExecutor(max_workers=workers)


def connect(client: Any, address: str, **options: Any) -> Any:
    """Return a client of the class `redis.Redis` for an address."""
    return client.from_url(address, **options)


# Files by descriptor


def open_file(path: Path, flags: int, mode: int = 0o777) -> int:
    return os.open(path, flags, mode)


def close(file: int) -> None:
    os.close(file)


def write(file: int, data: bytes) -> int:
    return os.write(file, data)


def pwrite(file: int, data: bytes, offset: int) -> int:
    return os.pwrite(file, data, offset)


def fsync(file: int) -> None:
    os.fsync(file)


def fdatasync(file: int) -> None:
    os.fdatasync(file)


def lock(file: int | IO[Any], operation: int) -> None:
    fcntl.flock(file, operation)


# Files by path


def open_stream(path: Path, mode: str, buffering: int = -1) -> IO[Any]:
    return path.open(mode, buffering)


def temporary_file(prefix: str, suffix: str, folder: Path) -> tuple[int, str]:
    return tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=folder)


def exists(path: Path) -> bool:
    return path.exists()


def status(path: Path) -> os.stat_result:
    return path.stat()


def listing(folder: Path) -> list[Path]:
    """Return what `Path.iterdir` yields."""
    return list(folder.iterdir())


def rename(path: Path, target: Path) -> None:
    path.rename(target)


def replace(path: Path, target: Path) -> None:
    path.replace(target)


def unlink(path: Path, missing_ok: bool = False) -> None:
    path.unlink(missing_ok)


def make_folder(path: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
    """See `Path.mkdir`; missing parents are made too."""
    path.mkdir(mode, parents=True, exist_ok=exist_ok)


def remove_folder(path: Path) -> None:
    path.rmdir()


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)
