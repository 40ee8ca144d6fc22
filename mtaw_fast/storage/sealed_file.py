"""Sealed files: copies of files in memory that cannot change, shared by the processes of a service.

A process that maps a file dies of SIGBUS when another program truncates the file, as `cp` over a served bundle does.
Neither MAP_PRIVATE nor a hard link prevents that. So a file is copied once into a memfd, which is then sealed: it can
neither shrink nor change. Processes with the same parent (a supervisor's workers) find each other's copies among their
open files under /proc and map the same memory. If /proc does not allow it, each process has its own copy. The memory is
freed with the last process that maps it.

    MTAW_MAPPING=map    maps the files themselves instead; nobody may write into them then

A copy takes the file's size in memory, once for all workers. Unlike a mapped file it cannot be dropped and read again.
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
_LOCK_SECONDS = 20.0  # to wait for another process that is copying the same file
_COPIES: WeakValueDictionary[str, mmap.mmap] = WeakValueDictionary()  # of this process, by `_copy_name`
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True, eq=False)
class SealedFile:
    """The bytes of a file as they were when it was opened.

    path: the file, for messages. data: uint8[size], read-only. copied: whether it is a copy; else the file is mapped.
    """

    path: Path
    data: np.ndarray
    copied: bool

    def __str__(self) -> str:
        return str(self.path)


def open_sealed(
    path: Path, *, size: int | None = None, mapping: str | None = None, check: Callable[[int, int], None] | None = None
) -> SealedFile:
    """Open a file so that its bytes cannot change while they are used.

    Parameters
    ----------
    path : Path
        A regular file.
    size : int, optional
        The number of bytes that it must have.
    mapping : {'copy', 'map'}, optional
        A sealed copy, or the file itself mapped. The default is MTAW_MAPPING, or 'copy'.
    check : callable, optional
        Called with the open descriptor and the size before anything is copied; may raise.

    Returns
    -------
    SealedFile
        Its bytes, unchanged as long as any of their arrays exists; with 'map' only if the file does not change.

    Raises
    ------
    DataError
        If the file is missing, is not a regular file, has another size, changes while it is copied, or there is not
        enough memory for the copy.
    UsageError
        On another mapping.
    """
    chosen = mapping_of(mapping)
    descriptor = open_regular(path, DataError, size)
    try:
        length = os.fstat(descriptor).st_size
        try:
            if check is not None:
                check(descriptor, length)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}; restore it or make it again") from None
        if length == 0:
            return SealedFile(path, np.empty(0, np.uint8), chosen == "copy")
        memory = _sealed_copy(path, descriptor) if chosen == "copy" else _map(path, descriptor, length)
    finally:
        os.close(descriptor)
    return SealedFile(path, np.frombuffer(memory, np.uint8), chosen == "copy")


def mapping_of(mapping: str | None) -> str:
    """Return `mapping`, or by default MTAW_MAPPING, or 'copy'. Raises UsageError unless it is one of MAPPINGS."""
    value = mapping if mapping is not None else os.environ.get(VARIABLE) or MAPPINGS[0]
    if value not in MAPPINGS:
        name = "mapping" if mapping is not None else VARIABLE
        raise UsageError(f"{name}={shown(value)} is not a mapping; choose one of {', '.join(MAPPINGS)}")
    return value


@contextlib.contextmanager
def path_of(file: SealedFile) -> Iterator[Path]:
    """Yield a path to the sealed bytes for a library that opens files itself; valid only inside the `with`."""
    key = next((name for name, memory in list(_COPIES.items()) if file.copied and _backs(memory, file.data)), None)
    descriptor = None if key is None else _open_copy_of(os.getpid(), key)
    if descriptor is None:
        yield file.path
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
        raise DataError(f"cannot map {path}: {error}; check that the file is whole") from None


def _sealed_copy(path: Path, descriptor: int) -> mmap.mmap:
    """Return the file's sealed copy: this process's, another worker's, or a new one."""
    name = _copy_name(descriptor)
    with _copy_lock(descriptor):
        memory = _COPIES.get(name)
        if memory is None:
            shared = _open_siblings_copy(name)
            sealed = _new_copy(path, descriptor, name) if shared is None else shared
            try:
                memory = mmap.mmap(
                    sealed, os.fstat(sealed).st_size, prot=mmap.PROT_READ
                )  # mmap duplicates the descriptor
            finally:
                os.close(sealed)
            _COPIES[name] = memory
    return memory


def _copy_name(descriptor: int) -> str:
    """Return the name of a file's copy, which changes with the file's contents."""
    status = os.fstat(descriptor)
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return "mtaw-" + "-".join(f"{part:x}" for part in parts)


def _was_written(before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether a file may have been written to between two results of `stat`.

    The change time alone does not tell: it also changes when a name of the file is removed or replaced.
    """
    lost_a_name = after.st_nlink < before.st_nlink
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return True
    return before.st_ctime_ns != after.st_ctime_ns and not lost_a_name


def _new_copy(path: Path, source: int, name: str) -> int:
    """Make a sealed copy, which nobody can shrink, grow or write, and return its descriptor."""
    status = os.fstat(source)
    size = status.st_size
    sealed = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # Allocate all pages now: without memory this is an error, but a later write would be a SIGBUS.
        os.posix_fallocate(sealed, 0, size)
        offset = 0
        while offset < size:
            sent = os.sendfile(sealed, source, offset, min(_CHUNK, size - offset))
            if sent == 0:
                break
            offset += sent
        if offset < size or _was_written(status, os.fstat(source)):
            raise DataError(f"{path} changed while it was read; write the whole bundle, then load it again")
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


@contextlib.contextmanager
def _copy_lock(descriptor: int) -> Iterator[None]:
    """Lock the file, so that workers that start together make one copy; without the lock each makes its own."""
    until = time.monotonic() + _LOCK_SECONDS
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
    yield  # closing the descriptor releases the lock


def _open_siblings_copy(name: str) -> int | None:
    """Open the copy of the parent or of a process with the same parent; return its descriptor, None without one."""
    parent, own_id = os.getppid(), os.getpid()
    for process in (parent, *_children(parent)):
        if process != own_id:
            descriptor = _open_copy_of(process, name)
            if descriptor is not None:
                return descriptor
    return None


def _children(parent: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):  # no such process, or a kernel that does not list them
        for task in Path(f"/proc/{parent}/task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children


def _open_copy_of(process: int, name: str) -> int | None:
    """Open the sealed copy `name` among the open files of a process; return its descriptor, None without one."""
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user
        for link in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if not str(link.readlink()).startswith(f"/memfd:{name} "):
                    continue
                descriptor = os.open(link, os.O_RDONLY | os.O_CLOEXEC)
                # Without seals it is still being filled, or it is not a memfd.
                with contextlib.suppress(OSError):
                    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS:
                        return descriptor
                os.close(descriptor)
    return None
