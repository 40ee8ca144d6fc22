"""Files held in memory so that nobody can take them away: sealed copies that the processes of a service share.

Whoever maps a file dies of SIGBUS once another program truncates it, as `cp` over a served bundle does. Neither
MAP_PRIVATE nor a hard link helps against that. So a file is copied once into a memfd, which is then sealed: it can
neither shrink nor change. Processes with the same parent (a supervisor's workers) find each other's copies among their
open files under /proc and map the same memory; where /proc does not let them, each has a copy of its own. The memory
goes with the last process that holds it, and nothing is left in a folder.

    MTAW_MAPPING=map    maps the files themselves instead, as long as nobody writes into them

A copy takes the file's size in memory, once for all workers; unlike a mapped file it cannot be dropped and read again.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.storage.files import open_regular

MAPPINGS = ("copy", "map")
VARIABLE = "MTAW_MAPPING"

_CHUNK = 1 << 26  # bytes a call of sendfile
_PATIENCE = 20.0  # seconds to wait for another process that is copying the same file
_HELD: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()  # this process's copies, by `_name`


@dataclass(frozen=True, slots=True, eq=False)
class SealedFile:
    """The bytes of a file as they were when it was opened.

    path: the file, for messages. data: uint8[size], read-only. copied: whether it is a copy, or the file itself mapped.
    """

    path: Path
    data: np.ndarray
    copied: bool

    def __str__(self) -> str:
        return str(self.path)


def open_sealed(
    path: Path,
    *,
    size: int | None = None,
    mapping: str | None = None,
    check: Callable[[int, int], None] | None = None,
) -> SealedFile:
    """Open a file for good.

    Parameters
    ----------
    path : Path
        A regular file.
    size : int, optional
        Bytes that it must have; None takes any.
    mapping : {'copy', 'map'}, optional
        A sealed copy, or the file itself mapped; None goes by MTAW_MAPPING, and copies where that is not set.
    check : callable, optional
        Called with the open descriptor and the size before anything is copied; may raise.

    Returns
    -------
    SealedFile
        Its bytes, which stay as they are for as long as any of their arrays lives. Of 'map': unless the file changes.

    Raises
    ------
    DataError
        Where the file is missing, is no regular file, has another size, changes while it is copied, or there is no
        memory for the copy.
    UsageError
        On another mapping.
    """
    how = mapping_of(mapping)
    descriptor = open_regular(path, DataError, size)
    try:
        length = os.fstat(descriptor).st_size
        try:
            if check is not None:
                check(descriptor, length)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}; restore it or make it again") from None
        if length == 0:
            return SealedFile(path, np.empty(0, np.uint8), how == "copy")
        memory = _copy(path, descriptor) if how == "copy" else _map(path, descriptor, length)
    finally:
        os.close(descriptor)
    return SealedFile(path, np.frombuffer(memory, np.uint8), how == "copy")


def mapping_of(asked: str | None) -> str:
    """What is asked for, else what MTAW_MAPPING says, else 'copy'. Raises UsageError where it is none of MAPPINGS."""
    found = asked if asked is not None else os.environ.get(VARIABLE) or MAPPINGS[0]
    if found not in MAPPINGS:
        where = "mapping" if asked is not None else VARIABLE
        raise UsageError(f"{where}={shown(found)} is none of {', '.join(MAPPINGS)}")
    return found


@contextlib.contextmanager
def named(held: SealedFile) -> Iterator[Path]:
    """A path by which a library that opens files itself reads the held bytes; good inside the `with` alone."""
    key = next((name for name, memory in list(_HELD.items()) if held.copied and _backs(memory, held.data)), None)
    descriptor = None if key is None else _shared_by(os.getpid(), key)
    if descriptor is None:
        yield held.path
        return
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _backs(memory: mmap.mmap, data: np.ndarray) -> bool:
    return len(memory) == len(data) and np.frombuffer(memory, np.uint8).ctypes.data == data.ctypes.data


def _map(path: Path, descriptor: int, length: int) -> mmap.mmap:
    try:
        return mmap.mmap(descriptor, length, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot map {path}: {error}; see that the file is whole") from None


def _copy(path: Path, descriptor: int) -> mmap.mmap:
    """The file's sealed copy: this process's, another worker's, or a fresh one."""
    name = _name(descriptor)
    with _one_at_a_time(descriptor):
        memory = _HELD.get(name)
        if memory is None:
            shared = _from_siblings(name)
            sealed = _fresh(path, descriptor, name) if shared is None else shared
            try:
                memory = mmap.mmap(sealed, os.fstat(sealed).st_size, prot=mmap.PROT_READ)  # has a descriptor of its own
            finally:
                os.close(sealed)
            _HELD[name] = memory
    return memory


def _name(descriptor: int) -> str:
    """What a copy is known by: it changes whenever the file's contents do."""
    status = os.fstat(descriptor)
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return "mtaw-" + "-".join(f"{part:x}" for part in parts)


def _written(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a file may have been written to between the two. That its name went to another file, or away, is told by
    its change time too, and leaves what is in it."""
    lost_a_name = after.st_nlink < before.st_nlink
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return True
    return before.st_ctime_ns != after.st_ctime_ns and not lost_a_name


def _fresh(path: Path, source: int, name: str) -> int:
    """The descriptor of a new sealed copy, which nobody can shrink, grow or write any more."""
    before = os.fstat(source)
    size = before.st_size
    sealed = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # All pages now: a write into memory that is not there would be a SIGBUS, this is an error.
        os.posix_fallocate(sealed, 0, size)
        done = 0
        while done < size:
            sent = os.sendfile(sealed, source, done, min(_CHUNK, size - done))
            if sent == 0:
                break
            done += sent
        if done < size or _written(before, os.fstat(source)):
            raise DataError(f"{path} changed while it was being read; put the whole bundle there, then load it again")
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, _SEALS)
        return sealed
    except OSError as error:
        os.close(sealed)
        raise DataError(
            f"cannot copy {path} ({size:,} bytes) into memory: {error.strerror}; free some, or map the file with "
            f"{VARIABLE}=map"
        ) from None
    except BaseException:
        os.close(sealed)
        raise


_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@contextlib.contextmanager
def _one_at_a_time(descriptor: int) -> Iterator[None]:
    """Hold the file's lock, so that workers that start together make one copy. Where it cannot be had, each makes its
    own, which is right too."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.005)
                continue
        except OSError:  # a file system without locks
            pass
        break
    yield  # the lock goes when the descriptor is closed


def _from_siblings(name: str) -> int | None:
    """A descriptor of the copy that a process with the same parent, or the parent, holds; None where none does."""
    parent, own = os.getppid(), os.getpid()
    for process in (parent, *_children(parent)):
        if process != own:
            found = _shared_by(process, name)
            if found is not None:
                return found
    return None


def _children(parent: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # no such process, or a kernel that does not list them
        for task in Path(f"/proc/{parent}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _shared_by(process: int, name: str) -> int | None:
    """A descriptor of the sealed copy `name` among the open files of a process; None where it has none."""
    with contextlib.suppress(OSError):  # gone meanwhile, or another user's
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if not str(link.readlink()).startswith(f"/memfd:{name} "):
                    continue
                found = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
                # One that is not sealed is still being filled, or no memfd at all.
                with contextlib.suppress(OSError):
                    if fcntl.fcntl(found, fcntl.F_GET_SEALS) & _SEALS == _SEALS:
                        return found
                os.close(found)
    return None
