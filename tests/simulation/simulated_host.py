"""The functions of `mtaw_fast.system.host` on the simulated host."""

from __future__ import annotations

import errno
import fcntl
import inspect
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from mtaw_fast.system import host
from tests.simulation.world import Blocked, Child, Loop, World


class _Inline:
    def __enter__(self) -> _Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, work: Callable[[Any], Any], values: Any) -> Iterator[Any]:
        return map(work, values)


class _File(io.FileIO):
    """A file whose writes go through the simulated host."""

    def __init__(self, world: World, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._world = world

    def write(self, data: Any) -> int:
        offset = None if "a" in self.mode else self.tell()
        return self._world.written("stream write", self.fileno(), bytes(data), offset, super().write)


class SimulatedHost(World):
    """A world that offers what `mtaw_fast.system.host` offers, under the same names."""

    _made = 0  # names of files, and ids

    def time_ns(self) -> int:
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        return self.seconds

    def new_id(self) -> str:
        self._made += 1
        identifier = f"{self._made:032x}"
        if self.frames:
            self.ids[identifier] = self.frames[-1]
        return identifier

    def loop(self, waits: host.Waits, name: str) -> Loop:
        assert self.process is not None
        return Loop(self, self.process, waits, name)

    def start_process(self, command: Sequence[str]) -> Child:
        fault = self.call("start_process")
        child = Child(list(command))
        self.children.append(child)
        self.after(fault)
        return child

    def lower_priority(self, by: int) -> None:
        pass

    def pool(self, workers: int) -> _Inline:
        return _Inline()

    def connect(self, client: Any, address: str, **options: Any) -> Any:
        return self.redis

    def open_file(self, path: Path, flags: int, mode: int = 0o777) -> int:
        creates = bool(flags & os.O_CREAT) and not os.path.exists(path)
        fault = self.call("create" if creates else "open_file", path)
        file = os.open(path, flags, mode)
        if creates:
            self.disk.created(str(path), os.fstat(file).st_ino)
        if not flags & os.O_NONBLOCK:  # those for reading are closed elsewhere
            self._keep(file)
        self.after(fault)
        return file

    def _keep(self, file: int) -> None:
        self.disk.opened(file)
        if self.process is not None:
            self.process.descriptors.add(file)

    def close(self, file: int) -> None:
        fault = self.call("close")
        if self.process is not None:
            self.process.descriptors.discard(file)
        os.close(file)
        self.after(fault)

    def write(self, file: int, data: bytes) -> int:
        return self.written("write", file, data, None, lambda part: os.write(file, part))

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        return self.written("pwrite", file, data, offset, lambda part: os.pwrite(file, part, offset))

    def fsync(self, file: int) -> None:
        fault = self.call("fsync", os.readlink(f"/proc/self/fd/{file}"))
        if fault is not None and fault.kind == "error":
            self.failed_flushes += 1
            if not os.path.isdir(f"/proc/self/fd/{file}"):
                self.disk.failed(file, Random(fault.seed))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not self.disk.flushed(file):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.after(fault)

    def fdatasync(self, file: int) -> None:
        self.fsync(file)

    def lock(self, file: Any, operation: int) -> None:
        self.call("lock")
        try:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if operation & fcntl.LOCK_NB:
                raise
            raise Blocked from None

    def open_stream(self, path: Path, mode: str, buffering: int = -1) -> Any:
        writes = mode != "rb"
        creates = writes and "r" not in mode and not os.path.exists(path)
        fault = self.call("create" if creates else "open_stream", path)
        if not writes:
            return path.open(mode, buffering)
        raw = _File(self, path, mode.replace("b", ""))
        if creates:
            self.disk.created(str(path), os.fstat(raw.fileno()).st_ino)
        elif "w" in mode:
            self.disk.emptied(raw.fileno())
        self.disk.opened(raw.fileno())
        self.after(fault)
        if buffering == 0:
            return raw
        stream = io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream)

    def temporary_file(self, prefix: str, suffix: str, folder: Path) -> tuple[int, str]:
        fault = self.call("temporary_file", folder)
        self._made += 1
        path = folder / f"{prefix}{self._made:08d}{suffix}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.disk.created(str(path), os.fstat(file).st_ino)
        self._keep(file)
        self.after(fault)
        return file, str(path)

    def exists(self, path: Path) -> bool:
        self.call("exists", path)
        return path.exists()

    def status(self, path: Path) -> os.stat_result:
        self.call("status", path)
        return path.stat()

    def listing(self, folder: Path) -> list[Path]:
        self.call("listing", folder)
        return sorted(folder.iterdir())

    def rename(self, path: Path, target: Path) -> None:
        fault = self.call("rename", target)
        inode = os.stat(path).st_ino
        os.rename(path, target)
        self.disk.renamed(str(path), str(target), inode)
        self.after(fault)

    def replace(self, path: Path, target: Path) -> None:
        self.rename(path, target)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        fault = self.call("unlink", path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            if not missing_ok:
                raise
        else:
            self.disk.removed(str(path))
        self.after(fault)

    def make_folder(self, path: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
        fault = self.call("make_folder", path) if not path.exists() else None
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(mode, parents=True, exist_ok=exist_ok)
        for folder in reversed(missing):
            self.disk.made_folder(str(folder))
        self.after(fault)

    def remove_folder(self, path: Path) -> None:
        fault = self.call("remove_folder", path)
        path.rmdir()
        self.disk.removed(str(path))
        self.after(fault)

    def set_mode(self, path: Path, mode: int) -> None:
        self.call("set_mode", path)
        path.chmod(mode)

    # Switching it on

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put these functions in the place of the host's inside the `with`."""
        names = [name for name, _ in inspect.getmembers(host, inspect.isfunction) if not name.startswith("_")]
        real = {name: getattr(host, name) for name in names}
        for name in names:
            setattr(host, name, getattr(self, name))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(host, name, function)
