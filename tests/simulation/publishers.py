"""The steps that write bundles: compactions, updates with a log file, and new trainings."""

from __future__ import annotations

import contextlib
import io
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
from tests.simulation.history import Step
from tests.simulation.oracle import Base, BrokenPromiseError
from tests.simulation.processes import Child
from tests.simulation.stage import OPEN
from tests.simulation.templates import late_clicks, trained

_WRITERS = ("updater", "trainer")  # of the trained bundle


class Publishers(Clients):
    """The part of a run that writes bundles."""

    def _compact(self, step: Step) -> None:
        """Let a server ask for a compaction, and run it in a process of its own."""
        process = self.servers.get(step.who)
        if process is None:
            command = [sys.executable, "-m", "..", str(self.world.root / "bundle"), *self.settings.arguments()]
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
                checks.compacted(self.settings, self.oracle, self.base_of, whole=not frame.failed)

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
            return Base("", counts, before.updates + added)

        self._publish_with("updater", step, work)

    def _publish(self, step: Step) -> None:
        """Put another training in the place of the trained bundle."""
        other = trained(1 + self.count % 2, self.history.settings["timed"])

        def work() -> Base:
            Bundle.save(
                self.world.root / "bundle", other.model, metrics={}, dataset={"name": "x", "fingerprint": "y"},
                overwrite=True,
            )  # fmt: skip
            return Base(other.training, other.counts)

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
