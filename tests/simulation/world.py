"""The simulated host: processes that take turns in one thread, a clock, a disk that forgets, and faults.

Its calls are those of `simulated_host`, which take the place of `mtaw_fast.system.host`. A process is what shares a
fate: it dies at a call, from then on each of its calls ends with `Killed`, and its open files are closed. While a
process is inside a call, others may run whole steps: this is how they interleave.
"""

from __future__ import annotations

import errno
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
WRITING = {"write", "pwrite", "stream write", "temporary_file", "make_folder", "create"}


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
        self.command = command
        self.code: int | None = None
        self.pid = 0

    def poll(self) -> int | None:
        return self.code


class Frame:
    """A step that runs."""

    def __init__(self, process: Process, step: Step) -> None:
        self.process, self.step = process, step
        self.calls: list[str] = []  # their names
        self.full: Fault | None = None
        self.is_full = False  # whether the disk has no byte left
        self.ending = ""

    @property
    def failed(self) -> bool:
        """Whether a call failed, so that an error is no surprise."""
        return any(fault.kind in ("error", "full") and fault.call <= len(self.calls) for fault in self.step.faults)


class World:
    """The host and everything that runs on it.

    root: a folder whose files are on the simulated disk. seed: of whatever the faults leave open. run_steps: runs the
    steps of a fault, each in its process. story: what happened, line by line.
    """

    def __init__(self, root: Path, seed: int, run_steps: Callable[[Sequence[Step]], None]) -> None:
        self.root, self.disk, self.chance = root, Disk(root), Random(seed)
        self._run_steps = run_steps
        self.ms, self.seconds = START_MS, 0.0
        self.frames: list[Frame] = []
        self.done: list[Frame] = []
        self.children: list[Child] = []
        self.story: list[str] = []
        self.powered = 0  # power losses
        self.on_power: Callable[[], None] = lambda: None
        self.failed_flushes = 0
        self.redis: Any = None
        self.ids: dict[str, Frame] = {}  # by id that a process made: the step in which it did
        self._looking = False
        self._processes: list[Process] = []

    # Running

    @contextmanager
    def step(self, process: Process, step: Step) -> Iterator[Frame]:
        """Run what is inside the `with` as a step of a process. What it raises is in `frame.ending` afterwards."""
        frame = Frame(process, step)
        self.frames.append(frame)
        process.busy = True
        try:
            yield frame
        except Killed:
            frame.ending = "killed"
        except Blocked:
            frame.ending = "blocked"
        finally:
            self.done.append(self.frames.pop())
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
        self._processes = [other for other in self._processes if other.alive] + [process]
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
        for process in self._processes:
            self.kill(process)
        self.children.clear()
        self.disk.lose_power(Random(seed))
        with self.looking():
            self.on_power()

    def _close_all(self, process: Process) -> None:
        for descriptor in process.descriptors:
            os.close(descriptor)
        process.descriptors.clear()

    # Every call comes here first

    def call(self, name: str, what: object = "", quiet: bool = False) -> Fault | None:
        """Note a call, and apply the faults of its step; return one that comes after the call."""
        if not self.frames or self._looking:
            return None
        frame = self.frames[-1]
        if not frame.process.alive:
            raise Killed
        frame.calls.append(name)
        count = len(frame.calls)
        later = None
        for fault in frame.step.faults:
            if fault.call != count:
                continue
            self.tell(f"* {frame.process.name}, call {count}, {name} {self._shown(what)}: {_in_words(fault)}")
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
        if frame.full is not None and name in WRITING and later is None:
            later = frame.full
        if later is not None and later.kind == "error" and not quiet and name not in ("fsync", "close", "lock"):
            # The others do not fail, and a flush fails by itself.
            number = errno.ENOSPC if name in WRITING else (errno.EMFILE if name.startswith("open") else errno.EIO)
            raise OSError(number, os.strerror(number))
        if later is not None and later.kind == "full" and not name.endswith("write"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(what))
        return later

    def _end(self, process: Process, fault: Fault) -> None:
        if fault.kind == "power":
            self.lose_power(fault.seed)
        else:
            self.kill(process)
        raise Killed

    def after(self, fault: Fault | None) -> None:
        if fault is not None and fault.kind in ("kill", "power"):
            self._end(self.frames[-1].process, fault)

    def _shown(self, what: object) -> str:
        return str(what).replace(f"{self.root}/", "").replace(str(self.root), ".")

    @property
    def process(self) -> Process | None:
        return self.frames[-1].process if self.frames and not self._looking else None

    def written(self, name: str, file: int, data: bytes, offset: int | None, write: Callable[[bytes], int]) -> int:
        """Write, wholly or in part. offset: None at the end of the file."""
        fault = self.call(name, os.readlink(f"/proc/self/fd/{file}"))
        if fault is not None:
            data = data[: Random(fault.seed).randint(0, len(data))]
            if fault.kind == "full":
                if self.frames[-1].is_full or not data:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.frames[-1].is_full = True
        offset = os.fstat(file).st_size if offset is None else offset  # now: others may have written meanwhile
        count = write(data)
        self.disk.wrote(file, offset, data[:count])
        self.after(fault)
        return count


def _in_words(fault: Fault) -> str:
    moment = "after it" if fault.after else "before it"
    return {
        "kill": f"the process is killed {moment}", "power": f"the power fails {moment}", "error": "it fails",
        "full": "the disk is full", "steps": f"others run: {len(fault.steps)} steps",
    }[fault.kind]  # fmt: skip
