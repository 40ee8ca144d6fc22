"""A disk that loses at a power loss what was not flushed, as POSIX allows.

The files are real, in a temporary folder, so that every reader works, mapped ones too. What is kept here is what a
power loss may leave: the flushed bytes of each file, its later writes one by one, and the names that were made, changed
or removed since their folder was flushed. A power loss rewrites the folder to one of these states.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

_PAGE = 512  # bytes that a power loss keeps or loses as a whole


@dataclass(slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(slots=True)
class _File:
    flushed: bytes = b""
    writes: list[_Write] = field(default_factory=list)
    failures: int = 0  # of flushes; each open descriptor reports each once


@dataclass(slots=True)
class _Name:
    """A change of a folder that is not flushed: `path` is new, gone, or was renamed from `source`."""

    path: str
    inode: int | None = None  # None: gone; 0: a folder
    source: str | None = None

    @property
    def folder(self) -> str:
        return os.path.dirname(self.path)


class Disk:
    """What a power loss would leave of the files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}  # flushed: inodes by path; 0: a folder
        self._changes: list[_Name] = []
        self._seen: dict[int, int] = {}  # by descriptor: the failures that it has reported
        self.adopt()

    def adopt(self) -> None:
        """Take everything below the root as flushed."""
        self._files, self._names, self._changes, self._seen = {}, {}, [], {}
        for folder, folders, files in os.walk(self.root):
            for name in folders:
                self._names[os.path.join(folder, name)] = 0
            for name in files:
                path = os.path.join(folder, name)
                inode = os.stat(path).st_ino
                self._names[path] = inode
                self._files[inode] = _File(Path(path).read_bytes())

    # What the simulated host reports

    def created(self, path: str, inode: int) -> None:
        self._files[inode] = _File()
        self._changes.append(_Name(path, inode))

    def made_folder(self, path: str) -> None:
        self._changes.append(_Name(path, 0))

    def removed(self, path: str) -> None:
        self._changes.append(_Name(path))

    def renamed(self, path: str, target: str, inode: int) -> None:
        self._changes.append(_Name(target, inode, path))

    def opened(self, descriptor: int) -> None:
        self._seen[descriptor] = self._file(descriptor).failures

    def emptied(self, descriptor: int) -> None:
        file = self._file(descriptor)
        if file.flushed or file.writes:
            file.flushed, file.writes = b"", []  # at once: no promise depends on when

    def wrote(self, descriptor: int, offset: int, data: bytes) -> None:
        if data:
            self._file(descriptor).writes.append(_Write(offset, bytes(data)))

    def flushed(self, descriptor: int) -> bool:
        """Flush a file or a folder; return False if an earlier flush failed and this descriptor has not said so."""
        status = os.fstat(descriptor)
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            folder = os.readlink(f"/proc/self/fd/{descriptor}")
            for change in self._changes:
                if change.folder == folder:
                    _apply(self._names, change)
            self._changes = [change for change in self._changes if change.folder != folder]
            return True
        file = self._files.setdefault(status.st_ino, _File())
        if self._seen.get(descriptor, file.failures) < file.failures:
            self._seen[descriptor] = file.failures
            return False
        file.flushed, file.writes = _after(file.flushed, file.writes), []
        return True

    def failed(self, descriptor: int, chance: Random) -> None:
        """Fail a flush: the kernel drops what it could not write, and later flushes do not write it."""
        file = self._file(descriptor)
        kept = [write for write in file.writes if chance.random() < 0.5]
        file.flushed, file.writes = _after(file.flushed, kept), []
        file.failures += 1
        self._seen[descriptor] = file.failures

    def _file(self, descriptor: int) -> _File:
        return self._files.setdefault(os.fstat(descriptor).st_ino, _File())

    # A power loss

    def lose_power(self, chance: Random) -> None:
        """Rewrite the folder to a state that a power loss may leave now."""
        mood = chance.choice(("nothing", "prefix", "any", "any", "all"))
        names = dict(self._names)
        for change in self._survivors(self._changes, mood, chance):
            _apply(names, change)
        whole = {path: inode for path, inode in names.items() if self._has_folders(path, names)}
        contents: dict[str, bytes] = {}
        for path, inode in whole.items():
            if inode:
                file = self._files[inode]
                kept = [_torn(write, mood, chance) for write in self._survivors(file.writes, mood, chance)]
                contents[path] = _after(file.flushed, kept)
        self._rewrite(whole, contents)
        self.adopt()

    @staticmethod
    def _survivors(changes: list, mood: str, chance: Random) -> list:
        if mood == "nothing":
            return []
        if mood == "prefix":
            return changes[: chance.randint(0, len(changes))]
        return [change for change in changes if mood == "all" or chance.random() < 0.5]

    def _has_folders(self, path: str, names: dict[str, int]) -> bool:
        folder = os.path.dirname(path)
        return folder == str(self.root) or (names.get(folder) == 0 and self._has_folders(folder, names))

    def _rewrite(self, names: dict[str, int], contents: dict[str, bytes]) -> None:
        for folder, folders, files in os.walk(self.root, topdown=False):
            for name in files:
                path = os.path.join(folder, name)
                if path not in contents or Path(path).read_bytes() != contents[path]:
                    os.unlink(path)
            for name in folders:
                path = os.path.join(folder, name)
                if path not in names:
                    shutil.rmtree(path)
        for path in sorted(path for path, inode in names.items() if inode == 0):
            os.makedirs(path, mode=0o700, exist_ok=True)
        for path, data in contents.items():
            if not os.path.exists(path):
                with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as stream:
                    stream.write(data)


def _apply(names: dict[str, int], change: _Name) -> None:
    if change.source is not None:
        if names.get(change.source) != change.inode:
            return  # the name that it was renamed from was lost
        del names[change.source]
    if change.inode is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.inode


def _after(data: bytes, writes: list[_Write]) -> bytes:
    content = bytearray(data)
    for write in writes:
        if len(content) < write.offset:
            content += bytes(write.offset - len(content))
        content[write.offset : write.offset + len(write.data)] = write.data
    return bytes(content)


def _torn(write: _Write, mood: str, chance: Random) -> _Write:
    """Return a write, or a part of it: up to some byte, or without one page."""
    if mood == "all" or chance.random() < 0.6:
        return write
    if chance.random() < 0.7 or len(write.data) < 2 * _PAGE:
        return _Write(write.offset, write.data[: chance.randrange(len(write.data))])
    page = chance.randrange(len(write.data) // _PAGE) * _PAGE
    return _Write(write.offset, write.data[:page] + bytes(_PAGE) + write.data[page + _PAGE :])
