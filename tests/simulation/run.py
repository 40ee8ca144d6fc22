"""Runs a history: the steps of its processes on the simulated host, and the checks of what they promise."""

from __future__ import annotations

import shutil

from tests.simulation import checks
from tests.simulation.history import SERVERS, History, Step
from tests.simulation.oracle import BrokenPromiseError
from tests.simulation.processes import Process
from tests.simulation.publishers import Publishers
from tests.simulation.substitutes import in_place

_FARTHEST_MS = 6 * 3_600_000  # of the clock from where it would be


class Run(Publishers):
    """One run of a history.

    Parameters
    ----------
    history : History
        What happens.
    """

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._offset = self._losses = 0

    @property
    def story(self) -> list[str]:
        """What happened, line by line."""
        return self.world.story

    def go(self) -> None:
        """Run the history. Raises BrokenPromiseError if a promise was not kept."""
        try:
            with in_place(self):
                self.play(self.history.steps)
                self._end()
        finally:
            self.servers.clear()
            shutil.rmtree(self.folder, ignore_errors=True)

    # Steps of servers, and of their host

    def _turn(self, step: Step) -> None:
        self.world.pass_time(step.values["ms"])
        process = self.serving(step)
        if process is None:
            return
        with self.world.step(process, step) as frame:
            for loop in list(process.loops):
                if loop.due:
                    loop.turn()
        if frame.ending:
            return
        process.loops = [running for running in process.loops if not running.ended]
        if all(flusher.rests for flusher in process.loops if flusher.name == "mtaw-fsync") and not frame.failed:
            self.oracle.flushed(step.who)
        self.check(process)
        if process.rec.learner.must_reload:  # a service loads again then
            self.play([Step("stop", step.who), Step("start", step.who)])

    def _recommend(self, step: Step) -> None:
        process = self.serving(step)
        if process is not None:
            with self.world.looking():
                checks.answers(process.rec, self.world.ms)

    def _kill(self, step: Step) -> None:
        process = self.servers.get(step.who)
        if process is not None:
            self.world.kill(process)

    def _stop(self, step: Step) -> None:
        process = self.servers.get(step.who)
        if process is None:
            return
        with self.world.step(process, step) as frame:
            process.rec.close()
        self.check_released(process, frame)
        if not frame.ending and not frame.failed and not self.world.failed_flushes:
            self.oracle.flushed(step.who)
        self.world.kill(process)

    def _power(self, step: Step) -> None:
        self._losses += 1
        self.world.lose_power(self.history.seed + self._losses)

    def _jump(self, step: Step) -> None:
        if abs(self._offset + step.values["ms"]) <= _FARTHEST_MS:
            self._offset += step.values["ms"]
            self.world.ms += step.values["ms"]
            self._epoch += 1  # other sessions: what the pause of one was is not clear any more

    # The end

    def _end(self) -> None:
        """Let everything come to rest without faults, and check all of it."""
        self.world.tell("the end: no faults from here on")
        for name in SERVERS:
            process = self.servers.get(name)
            if process is not None and not self._is_current(process):
                self.play([Step("stop", name)])
        self.play([Step("start", name) for name in SERVERS[:2]])
        self._rest()
        self.play([Step("compact", "A", {"wait": False})])
        self._rest()
        self.play([Step("start", "C")])
        self._rest()
        for name in SERVERS:
            self._check_last(self.servers[name])
        if self.history.settings["guarded"]:
            checks.guarded(self.settings, self.oracle)
        self.play([Step("stop", name) for name in SERVERS])

    def _check_last(self, process: Process) -> None:
        checks.answers(process.rec, self.world.ms)
        if not self._is_current(process):
            raise BrokenPromiseError(f"{process.name} serves another training than the one in its folder")
        unrest = self._unrest(process)
        if unrest:
            raise BrokenPromiseError(f"{process.name} {unrest}")

    def _unrest(self, process: Process) -> str:
        """Return what a service has yet to do, "" if nothing."""
        if process.rec.log_position < self.oracle.end:
            return f"has learned up to {process.rec.log_position} of {self.oracle.end} only"
        manifest = checks.manifest_in(self.settings.folder / "bundle")
        if manifest is not None and process.rec.bundle.manifest != manifest:
            return "does not serve the compacted bundle"
        return ""

    def _is_current(self, process: Process) -> bool:
        manifest = checks.manifest_in(self.world.root / "bundle")
        assert manifest is not None
        return checks.training_of(process.rec.bundle.manifest) == checks.training_of(manifest)

    def _rest(self) -> None:
        for ms in (700_000, 1_000, 1_000):
            for name in SERVERS:
                if name in self.servers:
                    self.play([Step("turn", name, {"ms": ms})])
            if not any(map(self._unrest, self.servers.values())):
                return
