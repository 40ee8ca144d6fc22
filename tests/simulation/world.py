"""The simulated host: processes that take turns in one thread, a clock, a disk that forgets, and faults.

It puts its own functions in the place of those of `mtaw_fast.system.host`. A process is what shares a fate: it dies at
a call, from then on each of its calls ends with `Killed`, and its open files are closed. While a process is inside a
call, others may run whole steps: this is how they interleave.
"""

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
from tests.simulation.disk import Disk
from tests.simulation.history import Fault, Step

START_MS = 1_764_150_000_000
_WRITING = {"write", "pwrite", "stream write", "temporary_file", "make_folder", "create"}


class Killed(BaseException):
    """The process has ended here."""


class Blocked(BaseException):
    """The process would wait for a lock of one that is inside a call; its step has had no effect so far."""


class Process:
    """A simulated process: its descriptors, its loops, and what it serves."""

    def __init__(self, name: str) -> None:
        self.name, self.alive, self.busy = name, True, False
        self.descriptors: set[int] = set()
        self.loops: list[Loop] = []
        self.rec: Any = None
        # It could not switch to the compacted bundle and said so, and the log was redacted up to here. Until it serves
        # a bundle of this position, it knows less of forgotten sessions, and items may have other numbers.
        self.behind = ""
        self.position = ""  # of its rankings, when it was checked last


class Loop:
    """A thread of a process that runs when its step comes; as `threading.Thread`."""

    def __init__(self, world: World, process: Process, waits: host.Waits, name: str) -> None:
        self._world, self.process, self._waits, self.name = world, process, waits, name
        self._started = self.ended = False
        self._event: Any = None
        self._until = 0.0

    def start(self) -> None:
        self._started = True
        self.process.loops.append(self)
        self.turn()

    def turn(self) -> None:
        """Run until the loop waits again."""
        try:
            self._event, seconds = next(self._waits)
            self._until = float("inf") if seconds is None else self._world.seconds + seconds
        except StopIteration:
            self.ended = True

    @property
    def due(self) -> bool:
        return not self.ended and (self._world.seconds >= self._until or self._event.is_set())

    @property
    def rests(self) -> bool:
        """Whether it has nothing to do until somebody sets its event."""
        return self.ended or (self._until == float("inf") and not self._event.is_set())

    def is_alive(self) -> bool:
        return self._started and not self.ended and self.process.alive

    def join(self) -> None:
        while not self.ended:
            self.turn()


class Child:
    """A program that a process started; as `subprocess.Popen`."""

    def __init__(self, command: list[str]) -> None:
        self.command, self.code = command, None
        self.pid = 0

    def poll(self) -> int | None:
        return self.code


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


class World:
    """The host and everything that runs on it.

    Parameters
    ----------
    root : Path
        A folder whose files are on the simulated disk.
    seed : int
        Of whatever the faults leave open.
    run_steps : callable
        Runs the steps of a fault, each in its process.
    """

    def __init__(self, root: Path, seed: int, run_steps: Callable[[Sequence[Step]], None]) -> None:
        self.root, self.disk, self.chance = root, Disk(root), Random(seed)
        self._run_steps = run_steps
        self.ms, self.seconds = START_MS, 0.0
        self.frames: list[_Frame] = []
        self.children: list[Child] = []
        self.story: list[str] = []
        self.powered = 0  # power losses
        self.on_power: Callable[[], None] = lambda: None
        self.failed_flushes = 0
        self.redis: Any = None
        self._names, self._looking = 0, False
        self._processes: list[Process] = []

    # Running

    @contextmanager
    def step(self, process: Process, step: Step) -> Iterator[_Frame]:
        """Run what is inside the `with` as a step of a process. What it raises is in `frame.ending` afterwards."""
        frame = _Frame(process, step)
        self.frames.append(frame)
        process.busy = True
        try:
            yield frame
        except Killed:
            frame.ending = "killed"
        except Blocked:
            frame.ending = "blocked"
        finally:
            self.frames.pop()
            process.busy = False
        if not process.alive:
            frame.ending = "killed"
            self._close_all(process)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at the files inside the `with`, as no process: no fault strikes."""
        before, self._looking = self._looking, True
        try:
            yield
        finally:
            self._looking = before

    @property
    def step_has_faults(self) -> bool:
        """Whether a fault may strike now."""
        return bool(self.frames) and not self._looking and bool(self.frames[-1].step.faults)

    @property
    def depth(self) -> int:
        return len(self.frames)

    def new_process(self, name: str) -> Process:
        process = Process(name)
        self._processes = [one for one in self._processes if one.alive] + [process]
        return process

    def tell(self, line: str) -> None:
        """Add a line to the story."""
        self.story.append("  " * self.depth + self._shown(line))

    def pass_time(self, ms: int) -> None:
        self.ms += ms
        self.seconds += ms / 1000

    def kill(self, process: Process) -> None:
        process.alive = False
        self._close_all(process)

    def lose_power(self, seed: int) -> None:
        self.tell("*** power loss")
        self.powered += 1
        for one in self._processes:
            self.kill(one)
        self.children.clear()
        self.disk.lose_power(Random(seed))
        with self.looking():
            self.on_power()

    def _close_all(self, process: Process) -> None:
        for descriptor in process.descriptors:
            os.close(descriptor)
        process.descriptors.clear()

    # Every call comes here first

    def _call(self, name: str, what: object = "", quiet: bool = False) -> Fault | None:
        """Note a call, and apply the faults of its step; return one that comes after the call."""
        if not self.frames or self._looking:
            return None
        frame = self.frames[-1]
        if not frame.process.alive:
            raise Killed
        frame.calls += 1
        later = None
        for fault in frame.step.faults:
            if fault.call != frame.calls:
                continue
            self.tell(f"* {frame.process.name}, call {frame.calls}, {name} {self._shown(what)}: {_in_words(fault)}")
            if fault.kind == "steps":
                self._run_steps(fault.steps)
                if not frame.process.alive:
                    raise Killed
            elif fault.kind == "full":
                frame.full = fault
            elif fault.after or fault.kind == "error":
                later = fault
            else:
                self._end(frame.process, fault)
        if frame.full is not None and name in _WRITING and later is None:
            later = frame.full
        if later is not None and later.kind == "error" and not quiet:
            self._fail(name)
        if later is not None and later.kind == "full" and not name.endswith("write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(what))
        return later

    def _end(self, process: Process, fault: Fault) -> None:
        if fault.kind == "power":
            self.lose_power(fault.seed)
        else:
            self.kill(process)
        raise Killed

    @staticmethod
    def _fail(name: str) -> None:
        if name in ("fsync", "fdatasync"):
            return  # the flush itself fails
        if name in ("close", "lock", "time_ns", "monotonic"):
            return  # they do not fail
        number = errno.ENOSPC if name in _WRITING else (errno.EMFILE if name.startswith("open") else errno.EIO)
        raise OSError(number, os.strerror(number))

    def _after(self, fault: Fault | None) -> None:
        if fault is not None and fault.kind in ("kill", "power"):
            self._end(self.frames[-1].process, fault)

    def _shown(self, what: object) -> str:
        return str(what).replace(f"{self.root}/", "").replace(str(self.root), ".")

    @property
    def process(self) -> Process | None:
        return self.frames[-1].process if self.frames and not self._looking else None

    def written(self, name: str, file: int, data: bytes, offset: int | None, write: Callable[[bytes], int]) -> int:
        """Write, wholly or in part. offset: None at the end of the file."""
        fault = self._call(name, os.readlink(f"/proc/self/fd/{file}"))
        if fault is not None:
            data = data[: Random(fault.seed).randint(0, len(data))]
            if fault.kind == "full":
                if self.frames[-1].is_full or not data:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.frames[-1].is_full = True
        offset = os.fstat(file).st_size if offset is None else offset  # now: others may have written meanwhile
        count = write(data)
        self.disk.wrote(file, offset, data[:count])
        self._after(fault)
        return count

    def enter(self, name: str, what: str, error: Exception) -> Fault | None:
        """Begin a call of another machine: an error of it is `error`, before or after it did what was asked."""
        fault = self._call(name, what, quiet=True)
        if fault is not None and fault.kind == "error" and not fault.after:
            raise error
        return fault

    def leave(self, fault: Fault | None, error: Exception) -> None:
        """End such a call."""
        if fault is not None and fault.kind == "error":
            raise error
        self._after(fault)

    # The functions of `mtaw_fast.system.host`

    def time_ns(self) -> int:
        return self.ms * 1_000_000

    def monotonic(self) -> float:
        return self.seconds

    def new_id(self) -> str:
        self._names += 1
        return f"{self._names:032x}"

    def loop(self, waits: host.Waits, name: str) -> Loop:
        assert self.process is not None
        return Loop(self, self.process, waits, name)

    def start_process(self, command: Sequence[str]) -> Child:
        fault = self._call("start_process")
        child = Child(list(command))
        self.children.append(child)
        self._after(fault)
        return child

    def lower_priority(self, by: int) -> None:
        pass

    def pool(self, workers: int) -> _Inline:
        return _Inline()

    def connect(self, client: Any, address: str, **options: Any) -> Any:
        return self.redis

    def open_file(self, path: Path, flags: int, mode: int = 0o777) -> int:
        creates = bool(flags & os.O_CREAT) and not os.path.exists(path)
        fault = self._call("create" if creates else "open_file", path)
        file = os.open(path, flags, mode)
        if creates:
            self.disk.created(str(path), os.fstat(file).st_ino)
        if not flags & os.O_NONBLOCK:  # those for reading are closed elsewhere
            self._keep(file)
        self._after(fault)
        return file

    def _keep(self, file: int) -> None:
        self.disk.opened(file)
        if self.process is not None:
            self.process.descriptors.add(file)

    def close(self, file: int) -> None:
        fault = self._call("close")
        if self.process is not None:
            self.process.descriptors.discard(file)
        os.close(file)
        self._after(fault)

    def write(self, file: int, data: bytes) -> int:
        return self.written("write", file, data, None, lambda part: os.write(file, part))

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        return self.written("pwrite", file, data, offset, lambda part: os.pwrite(file, part, offset))

    def fsync(self, file: int) -> None:
        fault = self._call("fsync", os.readlink(f"/proc/self/fd/{file}"))
        if fault is not None and fault.kind == "error":
            self.failed_flushes += 1
            if not os.path.isdir(f"/proc/self/fd/{file}"):
                self.disk.failed(file, Random(fault.seed))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not self.disk.flushed(file):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._after(fault)

    def fdatasync(self, file: int) -> None:
        self.fsync(file)

    def lock(self, file: Any, operation: int) -> None:
        self._call("lock")
        try:
            fcntl.flock(file, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if operation & fcntl.LOCK_NB:
                raise
            raise Blocked from None

    def open_stream(self, path: Path, mode: str, buffering: int = -1) -> Any:
        writes = mode != "rb"
        creates = writes and "r" not in mode and not os.path.exists(path)
        fault = self._call("create" if creates else "open_stream", path)
        if not writes:
            return path.open(mode, buffering)
        raw = _File(self, path, mode.replace("b", ""))
        if creates:
            self.disk.created(str(path), os.fstat(raw.fileno()).st_ino)
        elif "w" in mode:
            self.disk.emptied(raw.fileno())
        self.disk.opened(raw.fileno())
        self._after(fault)
        if buffering == 0:
            return raw
        stream = io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream)

    def temporary_file(self, prefix: str, suffix: str, folder: Path) -> tuple[int, str]:
        fault = self._call("temporary_file", folder)
        self._names += 1
        path = folder / f"{prefix}{self._names:08d}{suffix}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.disk.created(str(path), os.fstat(file).st_ino)
        self._keep(file)
        self._after(fault)
        return file, str(path)

    def exists(self, path: Path) -> bool:
        self._call("exists", path)
        return path.exists()

    def status(self, path: Path) -> os.stat_result:
        self._call("status", path)
        return path.stat()

    def listing(self, folder: Path) -> list[Path]:
        self._call("listing", folder)
        return sorted(folder.iterdir())

    def rename(self, path: Path, target: Path) -> None:
        fault = self._call("rename", target)
        inode = os.stat(path).st_ino
        os.rename(path, target)
        self.disk.renamed(str(path), str(target), inode)
        self._after(fault)

    def replace(self, path: Path, target: Path) -> None:
        self.rename(path, target)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        fault = self._call("unlink", path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            if not missing_ok:
                raise
        else:
            self.disk.removed(str(path))
        self._after(fault)

    def make_folder(self, path: Path, mode: int = 0o777, exist_ok: bool = False) -> None:
        fault = self._call("make_folder", path) if not path.exists() else None
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(mode, parents=True, exist_ok=exist_ok)
        for one in reversed(missing):
            self.disk.made_folder(str(one))
        self._after(fault)

    def remove_folder(self, path: Path) -> None:
        fault = self._call("remove_folder", path)
        path.rmdir()
        self.disk.removed(str(path))
        self._after(fault)

    def set_mode(self, path: Path, mode: int) -> None:
        self._call("set_mode", path)
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


class _Frame:
    """A step that runs."""

    def __init__(self, process: Process, step: Step) -> None:
        self.process, self.step = process, step
        self.calls = 0
        self.full: Fault | None = None
        self.is_full = False  # whether the disk has no byte left
        self.ending = ""

    @property
    def hit(self) -> bool:
        """Whether a fault has struck."""
        return any(one.call <= self.calls for one in self.step.faults)


def _in_words(fault: Fault) -> str:
    when = "after it" if fault.after else "before it"
    return {
        "kill": f"the process is killed {when}", "power": f"the power fails {when}", "error": "it fails",
        "full": "the disk is full", "steps": f"others run: {len(fault.steps)} steps",
    }[fault.kind]  # fmt: skip
