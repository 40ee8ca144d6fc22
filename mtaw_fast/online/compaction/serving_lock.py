"""Locks that say which folders of compacted bundles a learner serves now, whatever a compactor was started with.

So a command that names one of several bundles takes nothing from the others: what they have not compacted stays in the
log, and their compacted bundles stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.private_files import FILE_MODE, make_private
from mtaw_fast.online.settings import ARMS, LearningSettings
from mtaw_fast.system import host

_LOCK = ".serving.lock"
_END = b"\0"  # of the bundle's path in the file


class ServingLock:
    """Mark a folder as the one in which a trained bundle learns, until `close` or the end of the process.

    Any number of processes hold the lock of one folder. The file keeps the trained bundle's path: a compactor must know
    whether the compacted bundle is of its training. Raises LearnError if the folder cannot be used.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        path, content = folder / _LOCK, os.fsencode(bundle.absolute()) + _END
        try:
            if not host.exists(folder):
                make_private(folder)
            self._file: int | None = host.open_file(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                host.lock(self._file, fcntl.LOCK_SH)
                if _content(path) != content:  # a restart on a full disk writes nothing
                    host.pwrite(self._file, content, 0)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise LearnError(f"cannot learn in {folder}: {error.strerror or error}; give a writable folder") from None

    def close(self) -> None:
        """Give the lock back. A forked child gives back its own share."""
        file, self._file = self._file, None
        if file is not None:
            host.close(file)


def other_arms(settings: LearningSettings) -> list[tuple[Path, Path]]:
    """Return bundle and folder of the arms that need the log too: those in the settings, and all that are served.

    For compactors alone, which take turns: two that look at once take each other for a learner.
    """
    known = {settings.folder, *(folder for _, folder in settings.other_arms)}
    others = ((served_in(folder), folder) for folder in arm_folders(settings.log_folder) if folder not in known)
    return [*settings.other_arms, *((bundle, folder) for bundle, folder in others if bundle is not None)]


def served_in(folder: Path) -> Path | None:
    """Return the trained bundle that a learner serves with a folder now; None if none does."""
    with not_served(folder) as free:
        return None if free else Path(os.fsdecode(_content(folder / _LOCK).removesuffix(_END)))


def arm_folders(log_folder: Path) -> list[Path]:
    """Return the folders that may hold a compacted bundle of a log: its own, and that of each arm."""
    arms = log_folder / ARMS
    return [log_folder, *sorted(host.listing(arms))] if host.exists(arms) else [log_folder]


def is_learning_folder(folder: Path) -> bool:
    """Return whether a learner has served with a folder."""
    return any(host.exists(path / _LOCK) for path in arm_folders(folder))


@contextlib.contextmanager
def not_served(folder: Path) -> Iterator[bool]:
    """Yield whether no learner serves a folder. If so, none begins to inside the `with`."""
    path = folder / _LOCK
    if not host.exists(path):
        yield True
        return
    with host.open_stream(path, "r+b") as file:  # NFS locks alone only what may be written
        try:
            host.lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _content(path: Path) -> bytes:
    """Return the path in a lock's file with the mark that ends it. Without the mark, the file was not written whole."""
    with host.open_stream(path, "rb") as file:
        path_bytes, end, _ = file.read().partition(_END)
        return path_bytes + end
