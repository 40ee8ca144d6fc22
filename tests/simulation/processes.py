"""What runs on the simulated host: processes with their loops and children, and the step that one is inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mtaw_fast.system import host
from tests.simulation.history import Fault, Step

if TYPE_CHECKING:
    from tests.simulation.world import World


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
