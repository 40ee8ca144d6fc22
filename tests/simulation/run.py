"""Runs a history: the steps of its processes on the simulated host, and the checks of what they promise."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import MtawError
from mtaw_fast.online.batch_update import LogFile, apply_log, log_limits
from mtaw_fast.online.compaction import compactor
from tests.simulation import checks
from tests.simulation.clients import Clients
from tests.simulation.history import SERVERS, History, Step
from tests.simulation.oracle import Base, BrokenPromiseError
from tests.simulation.stage import OPEN, in_place
from tests.simulation.templates import TRAINED_MS, late_clicks, trained
from tests.simulation.world import Child, Process

_WRITERS = ("updater", "trainer")  # of the trained bundle
_FARTHEST_MS = 6 * 3_600_000  # of the clock from where it would be


class Run(Clients):
    """One run of a history."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self._offset = self._losses = 0

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

    # Processes that write bundles

    def _compact(self, step: Step) -> None:
        """Let a server ask for a compaction, and run it in a process of its own."""
        process = self.servers.get(step.who)
        if process is None:
            bundle, settings = self.place_of(step.who)
            command = [sys.executable, "-m", "..", str(bundle), *settings.arguments()]
            self.world.children.append(Child(command))
        else:
            with self.world.step(process, Step("ask", step.who)):
                try:
                    if step.values.get("wait"):
                        process.rec.learner.request_compaction()
                    else:
                        process.rec.learner.compact()
                except MtawError as error:
                    self.world.tell(f"  refused: {error}")
        while self.world.children:
            self._run_child(self.world.children.pop(0), step)

    def _run_child(self, child: Child, step: Step) -> None:
        process, output = self.world.new_process("compactor"), io.StringIO()
        code: int | None = None
        with self.world.step(process, step) as frame, contextlib.redirect_stderr(output):
            code = compactor.main(child.command[3:])
        child.code = -9 if code is None else code
        self.world.tell(f"  the compactor ends with {child.code}: {output.getvalue().strip()}".rstrip(": "))
        self.check_released(process, frame)
        self.world.kill(process)
        if frame.ending:
            return
        if code not in (0, compactor.BUSY) and not frame.failed and not self.world.failed_flushes:
            raise BrokenPromiseError(f"the compaction failed, and nothing else did: {output.getvalue()}")
        if code == 0:
            self.oracle.update()
            with self.world.looking():
                checks.compacted(self.place_of(step.who)[1], self.oracle, self.base_of, whole=not frame.failed)

    def _update(self, step: Step) -> None:
        """Update the trained bundle with a log file."""
        clicks = late_clicks(self.count, step.values["sessions"])
        self.count += 1
        bundle_folder = self.world.root / "bundle"

        def work() -> Base:
            bundle = Bundle.load(bundle_folder)
            before = self.base_of(checks.training_of(bundle.manifest))
            log = LogFile.of(clicks, bundle.model)
            model, _ = apply_log(log, log_limits(OPEN))
            Bundle.save(
                bundle_folder, model, metrics=bundle.metrics, dataset=bundle.dataset, overwrite=True, instead_of=bundle
            )
            if not log.fresh.all():
                return before
            items = [clicks.item_ids[item] for item in clicks.items.tolist()]
            added = tuple(tuple(items[begin : begin + 2]) for begin in range(0, len(items), 2))
            counts = sum((Counter(set(session)) for session in added), before.counts)
            until = max(before.until, int(clicks.times.max()))
            return Base("", counts, until, before.updates + added)

        self._publish_with("updater", step, work)

    def _publish(self, step: Step) -> None:
        """Put another training in the place of the trained bundle."""
        other = trained(1 + self.count % 2, self.history.settings["timed"])

        def work() -> Base:
            Bundle.save(
                self.world.root / "bundle", other.model, metrics={}, dataset={"name": "x", "fingerprint": "y"},
                overwrite=True,
            )  # fmt: skip
            return Base(other.training, other.counts, TRAINED_MS)

        self._publish_with("trainer", step, work)

    def _is_overtaken(self, error: MtawError) -> bool:
        """Return whether the error says that another process writes the bundle, and one is in the middle of it."""
        writing = sum(frame.process.name in _WRITERS for frame in self.world.frames)
        return writing > 1 and "is being written by another process" in str(error)

    def _publish_with(self, name: str, step: Step, work: Callable[[], Base]) -> None:
        process = self.world.new_process(name)
        base: Base | None = None
        with self.world.step(process, step) as frame:
            try:
                base = work()
            except MtawError as error:
                self.world.tell(f"  {name} fails: {error}")
                if not frame.failed and not self._is_overtaken(error):
                    raise BrokenPromiseError(f"{name} fails, and nothing else did: {error}") from None
        self.check_released(process, frame)
        self.world.kill(process)
        # Also after a crash: the new manifest may be there or not.
        manifest = checks.manifest_in(self.world.root / "bundle")
        if manifest is None:
            raise BrokenPromiseError("the trained bundle is gone")
        training = checks.training_of(manifest)
        if base is None and training not in self.bases:
            with self.world.looking():
                base = checks.base_of(Bundle.load(self.world.root / "bundle"))
        if base is not None:
            self.bases[training] = replace(base, training=training)

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
        for who in SERVERS[: len(self.places)]:
            self.play([Step("compact", who, {"wait": False})])
            self._rest()
        with self.world.looking():
            checks.redacted(self.records().values(), self.oracle, self.places)
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
        manifest = checks.manifest_in(self.place_of(process.name)[1].folder / "bundle")
        if manifest is not None and process.rec.bundle.manifest != manifest:
            return "does not serve the compacted bundle"
        return ""

    def _is_current(self, process: Process) -> bool:
        manifest = checks.manifest_in(self.place_of(process.name)[0])
        assert manifest is not None
        return checks.training_of(process.rec.bundle.manifest) == checks.training_of(manifest)

    def _rest(self) -> None:
        for ms in (700_000, 1_000, 1_000):
            for name in SERVERS:
                if name in self.servers:
                    self.play([Step("turn", name, {"ms": ms})])
            if not any(map(self._unrest, self.servers.values())):
                return
