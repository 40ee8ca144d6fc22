"""Files: atomic writes, locks on folders, content hashes, JSON."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtaw_fast.errors import DataError, MtawError
from mtaw_fast.system import host

_MAX_JSON = 1 << 26  # bytes


@contextmanager
def atomic_path(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success flush it to disk and rename it to `path`.

    mode: of the file; by default that of a file that the process opens.

    On any failure (a full disk included) the temporary file is removed and `path` is untouched.
    An OSError becomes a one-line MtawError.
    """
    try:
        handle, name = host.temporary_file(f".{path.name}.", ".tmp", path.parent)
        host.close(handle)
    except OSError as error:
        raise MtawError(
            f"cannot write {path}: {error.strerror or error}; "
            f"{remedy_of(error, 'check that the folder exists and is writable')}"
        ) from None
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        host.set_mode(temporary, 0o666 & ~umask if mode is None else mode)
        _fsync(temporary)
        host.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        raise MtawError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from None
    finally:
        host.unlink(temporary, missing_ok=True)


def remedy_of(error: OSError, other: str) -> str:
    """Return what to do about a failed write: `other`, unless the disk is full."""
    return "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else other


def remove_temporary(folder: Path, name: str = "*") -> None:
    """Remove what `atomic_path` left in a folder, for paths of a name, where the process was killed.

    Only while no other process writes there. Raises OSError.
    """
    for path in folder.glob(f".{name}.*.tmp"):
        host.unlink(path, missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = host.open_file(path, os.O_RDONLY)
    try:
        host.fsync(descriptor)
    finally:
        host.close(descriptor)


def flush_name(path: Path) -> None:
    """Make the name of a file or folder survive a power loss, unless this user may not list the folder that has it.

    Raises OSError.
    """
    with contextlib.suppress(PermissionError):
        _fsync(path.parent)


def check_writable(folder: Path, make_error: Callable[[str], MtawError]) -> None:
    """Raise `make_error(one-line reason)` if `folder`, or the parent that it would be created in, is not writable.

    Call it before hours of work. It tries to write, since permissions alone are not enough to know.
    """
    parent = folder.absolute()
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise make_error(f"cannot make the folder {folder}: {parent} is a file; choose another one")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = f"cannot write into {parent}: {error.strerror or error}"
        raise make_error(f"{reason}; {remedy_of(error, 'choose another folder')}") from None


@contextmanager
def folder_lock(folder: Path, make_error: Callable[[str], MtawError]) -> Iterator[None]:
    """Lock `folder` (created if missing) for writing, among callers of this function.

    If another process or thread has the lock, `make_error(one-line reason)` is raised. The lock ends with the process
    and leaves no file. A folder that was created here and stays empty is removed.
    """
    created = True
    try:
        try:
            host.make_folder(folder)
        except FileExistsError:
            created = False
        descriptor = host.open_file(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        reason = f"cannot make the folder {folder}: {error.strerror}"
        raise make_error(f"{reason}; {remedy_of(error, 'choose another one')}") from None
    try:
        try:
            host.lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise make_error(f"{folder} is being written by another process; wait or choose another folder") from None
        try:
            yield
        finally:
            if created:
                with contextlib.suppress(OSError):  # not empty
                    host.remove_folder(folder)
    finally:
        host.close(descriptor)


def write_bytes(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write `data` to `path` atomically. mode: as in `atomic_path`."""
    with atomic_path(path, mode) as temporary, host.open_stream(temporary, "wb") as stream:
        stream.write(data)


def write_json(path: Path, value: Any, mode: int | None = None) -> None:
    """Write `value` as indented JSON to `path` atomically. mode: as in `atomic_path`."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), mode)


def open_regular(
    path: Path, make_error: Callable[[str], MtawError], size: int | None = None, absent: str = "is missing"
) -> int:
    """Open the regular file `path` for reading and return its descriptor.

    Anything that is not a regular file, or not of `size` bytes if given, is raised as `make_error(one-line reason)`
    before a byte is read: reading a pipe could block forever, and a wrong size needs no hash.
    """
    try:
        descriptor = host.open_file(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise make_error(f"{path} {absent}; restore it or make it again") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise make_error(f"cannot read {path}: {reason}; restore it or make it again") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise make_error(f"{path} is not a regular file; restore it or make it again")
    if size is not None and status.st_size != size:
        os.close(descriptor)
        raise make_error(
            f"{path} is damaged: it has {status.st_size:,} bytes, not {size:,}; restore it or make it again"
        )
    return descriptor


def read_json(path: Path, make_error: Callable[[str], MtawError]) -> Any:
    """Parse the JSON file `path`; failures are raised as `make_error(one-line reason)`.

    It must be a regular file of at most 64 MiB.
    """
    descriptor = open_regular(path, lambda reason: make_error(reason.rpartition(";")[0]), absent="does not exist")
    try:
        with os.fdopen(descriptor, "rb") as stream:
            text = stream.read(_MAX_JSON + 1)
        if len(text) > _MAX_JSON:
            raise ValueError(f"larger than {_MAX_JSON:,} bytes")
        return json.loads(text.decode())
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: not UTF-8, not JSON, or a number that is too long
        raise make_error(f"{path} is not readable JSON ({error})") from None


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a regular file's bytes. Raises DataError if it cannot be read."""
    with os.fdopen(open_regular(path, DataError), "rb") as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}; restore it or make it again") from None
