"""Runs a history: the steps of its processes on the simulated host, and the checks of what they promise."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model, writer
from mtaw_fast.bundle import bundle as bundle_module
from mtaw_fast.bundle.reader import read_bundle
from mtaw_fast.errors import DataError, LearnError, MtawError
from mtaw_fast.online import follower
from mtaw_fast.online.batch_update import LogFile, apply_log, log_limits
from mtaw_fast.online.compaction import compactor
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from mtaw_fast.online.state import guards
from tests.simulation import checks
from tests.simulation.history import SERVERS, History, Step, line_of
from tests.simulation.oracle import Base, BrokenPromiseError, Oracle, records_of
from tests.simulation.redis_stream import RedisStream
from tests.simulation.templates import BASE_ITEMS, late_clicks, trained
from tests.simulation.world import Child, Process, World

_READ: dict[object, tuple[dict[str, Any], Model]] = {}  # bundles by their files
_MOST_READ = 40
HUGE = 1 << 20
OPEN = LearningLimits(
    new_items=64, session_clicks=HUGE, burst_clicks=HUGE, item_floor=HUGE, pair_floor=HUGE, late=10 * 86_400_000
)
GUARDED = LearningLimits(new_items=64, session_clicks=6, burst_clicks=8, item_floor=1000, pair_floor=2, pair_share=0.01)
_FARTHEST_MS = 6 * 3_600_000  # of the clock from where it would be


class Run:
    """One run of a history.

    Parameters
    ----------
    history : History
        What happens.

    Attributes
    ----------
    story : list of str
        What happened, line by line.
    """

    def __init__(self, history: History) -> None:
        self.history, settings = history, history.settings
        self._folder = Path(tempfile.mkdtemp(prefix="mtaw-simulation-", dir=_memory_disk()))
        root = self._folder
        self._bases = [trained(0)]
        shutil.copytree(self._bases[0].folder, root / "bundle", copy_function=os.link)
        self.world = World(root, history.seed, self._steps)
        self.world.redis = RedisStream(self.world)
        self.world.on_power = self._power_was_lost
        limits = GUARDED if settings["guarded"] else OPEN
        limits = LearningLimits(
            **{**{name: getattr(limits, name) for name in limits.__dataclass_fields__}, "session_gap": settings["gap"]}
        )
        self.settings = LearningSettings(
            root / "learned", "redis://simulated:6379/0?stream=s" if settings["redis"] else None,
            fsync=settings["fsync"], compact=False, limits=limits, max_log_bytes=settings["max_log_bytes"],
        )  # fmt: skip
        self.oracle = Oracle(self._records, BASE_ITEMS, settings["gap"])
        self.bases = {self._bases[0].training: Base(self._bases[0].training, self._bases[0].counts)}
        self.servers: dict[str, Process] = {}
        self._epoch = self._clicks = self._offset = self._done = 0
        self._requests: list[tuple[str, list[str], list[str], int]] = []
        self._flush_failures = 0

    @property
    def story(self) -> list[str]:
        return self.world.story

    def go(self) -> None:
        """Run the history. Raises BrokenPromiseError if a promise was not kept."""
        try:
            with self._in_place():
                self._steps(self.history.steps)
                self._end()
        finally:
            self.servers.clear()
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        settings, defaults = self.history.settings, FileLog.__init__.__kwdefaults__
        logger, handler = logging.getLogger("mtaw_fast"), _ToStory(self.world, self.settings.folder)
        with contextlib.ExitStack() as stack:
            for owner, name, value in (
                (follower, "_READ_EVENTS", settings["read_events"]),
                (compactor, "_READ_EVENTS", settings["read_events"]),
                (guards, "_CELLS", 1 << 10), (guards, "_LAST_CELL", (1 << 10) - 1),  # a small shop
                (bundle_module, "read_bundle", self._read_bundle),
                (writer, "_commit", lambda: None), (writer, "_versions", dict),  # they start programs
            ):  # fmt: skip
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
            stack.callback(defaults.update, defaults.copy())
            defaults["segment_bytes"] = settings["segment_bytes"]
            before = os.environ.get("MTAW_MAPPING")
            os.environ["MTAW_MAPPING"] = "map"
            stack.callback(_set_variable, "MTAW_MAPPING", before)
            stack.callback(setattr, logger, "propagate", logger.propagate)
            logger.propagate = False
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
            stack.enter_context(self.world.in_place())
            yield

    def _read_bundle(self, folder: Path, verify: bool, mapping: str | None) -> tuple[dict[str, Any], Model]:
        """Read a bundle as always, or, in a step without faults, take what the same files were read as before."""
        if self.world.step_has_faults or not folder.is_dir():
            return read_bundle(folder, verify, mapping)
        stats = [(one.name, one.stat()) for one in os.scandir(folder)]
        key = tuple(sorted((name, one.st_ino, one.st_size, one.st_mtime_ns) for name, one in stats))
        if key not in _READ:
            if len(_READ) > _MOST_READ:
                _READ.pop(next(iter(_READ)))
            _READ[key] = read_bundle(folder, True, mapping)
        return _READ[key]

    def _records(self) -> dict[str, dict[str, Any]]:
        if self.settings.stream is None:
            return records_of(self.settings.folder)
        import json

        return {
            f"{ms:015d}-{number:010d}": json.loads(one[b"e"])
            for (ms, number), one in self.world.redis.entries.items()
        }  # fmt: skip

    # Steps

    def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            lost = self.world.powered
            process = self.servers.get(step.who)
            if process is not None and process.busy:
                continue  # it is inside a call
            self.world.tell(line_of(step))
            getattr(self, f"_{step.what}")(step)
            for name in [name for name, one in self.servers.items() if not one.alive]:
                del self.servers[name]
            if self.world.failed_flushes > self._flush_failures:
                self._flush_failures = self.world.failed_flushes
                self.oracle.flush_failed()
            if self.world.powered > lost and self.world.depth:
                return  # nobody is left to run the others

    def _serving(self, step: Step) -> Process | None:
        """Return the server of a step; None if it is down: then it starts instead, as by a supervisor."""
        process = self.servers.get(step.who)
        if process is None and self.world.frames == [] and step.what != "kill":
            self.world.tell(f"  {step.who} is down and starts")
            self._start(step)
        return process

    def _start(self, step: Step) -> None:
        if step.who in self.servers:
            return
        process = self.world.new_process(step.who)
        failure = ""
        with self.world.step(process, step) as frame:
            try:
                process.rec = Recommender.load(self.world.root / "bundle", learn=self.settings)
            except MtawError as error:
                failure = str(error)
        if failure:
            self.world.tell(f"  {step.who} does not start: {failure}")
            if "\n" in failure:
                raise BrokenPromiseError(f"the reason takes several lines: {failure}")
            if not _failed(step, frame):
                raise BrokenPromiseError(f"{step.who} does not start, and nothing failed: {failure}")
        if frame.ending or failure:
            self._check_released(process, frame)
            self.world.kill(process)
            return
        self.servers[step.who] = process
        self._check(process)

    def _check_released(self, process: Process, frame: Any) -> None:
        if not frame.ending and process.descriptors:
            raise BrokenPromiseError(f"{process.name} left {len(process.descriptors)} files open")

    def _append(self, step: Step, events: list[dict[str, Any]], call: Any) -> bool:
        """Send events from a server; `call` does it and returns the position."""
        process = self._serving(step)
        if process is None:
            return False
        sent = self.oracle.send(step.who, events)
        position = None
        with self.world.step(process, step) as frame:
            try:
                position = call(process.rec)
            except (LearnError, DataError) as error:
                sent.outcome = "refused"
                self.world.tell(f"  refused: {error}")
                if isinstance(error, LearnError) and not _failed(step, frame) and not self.world.failed_flushes:
                    raise BrokenPromiseError(f"{step.who} refused, and nothing failed: {error}") from None
        if position is not None and not frame.ending:
            self.world.tell(f"  acknowledged at {position}")
            self.oracle.acknowledge(sent, position, self.settings.fsync or self.settings.stream is not None)
        elif self.world.depth == 0:
            self.oracle.update()
        return position is not None

    def _observe(self, step: Step) -> None:
        session = f"s{step.values['session']}.{self._epoch}"
        items = step.values["items"]
        ids = [f"e{self._clicks + number}" for number in range(len(items))]
        self._clicks += len(items)
        self._click(step, session, items, ids, self.world.ms)

    def _click(self, step: Step, session: str, items: list[str], ids: list[str], at: int) -> None:
        if self._serving(step) is None:
            return
        self._requests.append((session, items, ids, at))
        events = [{"session": session, "item": item, "id": one} for item, one in zip(items, ids, strict=True)]
        self._append(step, events, lambda rec: rec.observe(session, items, at=at, ids=ids))

    def _resend(self, step: Step) -> None:
        current = [one for one in self._requests[-12:] if one[0].endswith(f".{self._epoch}")]
        if len(current) > step.values["back"]:
            self._click(step, *current[-1 - step.values["back"]])

    def _flood(self, step: Step) -> None:
        """Send many sessions with the same two items, or one with too many clicks."""
        if step.values["bot"]:
            names, items = [f"bot{self._clicks}"], [f"bot-{self._clicks}"] * 12
        else:
            names, items = (
                [f"f{self._clicks + number}" for number in range(step.values["sessions"])],
                ["new-0", "new-1"],
            )
        plain = Step("observe", step.who, {}, step.faults)
        for name in names:
            ids = [f"e{self._clicks + number}" for number in range(len(items))]
            self._clicks += len(items)
            self._click(plain, name, items, ids, self.world.ms)

    def _forget(self, step: Step) -> None:
        session = f"s{step.values['session']}.{self._epoch}"
        self._append(step, [{"forget": session}], lambda rec: rec.forget(session))

    def _add(self, step: Step) -> None:
        item, near = step.values["item"], step.values["near"]

        def add(rec: Recommender) -> str:
            rec.add_items([item], neighbors=[[near]])
            return self._last_of(step, {"add": [item]})

        self._append(step, [{"add": [item]}], add)

    def _change(self, step: Step) -> None:
        event = {step.what: [step.values["item"]]}

        def change(rec: Recommender) -> str:
            getattr(rec, "remove_items" if step.what == "remove" else step.what)([step.values["item"]])
            return self._last_of(step, event)

        self._append(step, [event], change)

    _remove = _hide = _show = _change

    def _last_of(self, step: Step, event: dict[str, Any]) -> str:
        """Return the position of the last such event: these calls do not return it."""
        kind, value = next(iter(event.items()))
        found = [place for place, one in self._records().items() if one.get(kind) == value]
        if not found:
            raise BrokenPromiseError(f"{step.who} acknowledged {kind} {value}, and the log lacks it")
        return found[-1]

    def _turn(self, step: Step) -> None:
        self.world.pass_time(step.values["ms"])
        process = self._serving(step)
        if process is None:
            return
        with self.world.step(process, step) as frame:
            for loop in list(process.loops):
                if loop.due:
                    loop.turn()
        if frame.ending:
            return
        process.loops = [one for one in process.loops if not one.ended]
        if all(one.rests for one in process.loops if one.name == "mtaw-fsync") and not _failed(step, frame):
            self.oracle.flushed(step.who)
        self._check(process)
        if process.rec.learner.must_reload:  # a service loads again then
            self._steps([Step("stop", step.who), Step("start", step.who)])

    def _recommend(self, step: Step) -> None:
        process = self._serving(step)
        if process is not None:
            with self.world.looking():
                checks.answers(process.rec)

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
        self._check_released(process, frame)
        if not frame.ending and not _failed(step, frame) and not self.world.failed_flushes:
            self.oracle.flushed(step.who)
        self.world.kill(process)

    def _power(self, step: Step) -> None:
        self._done += 1
        self.world.lose_power(self.history.seed + self._done)

    def _power_was_lost(self) -> None:
        self.servers.clear()
        manifest = checks.manifest_in(self.settings.folder / "bundle")
        training = "" if manifest is None else checks.training_of(manifest)
        self.oracle.update(True, (checks.redacted_until(self.settings.folder), training))

    def _jump(self, step: Step) -> None:
        if abs(self._offset + step.values["ms"]) <= _FARTHEST_MS:
            self._offset += step.values["ms"]
            self.world.ms += step.values["ms"]
            self._epoch += 1  # other sessions: what the pause of one was is not clear any more

    def _compact(self, step: Step) -> None:
        """Let a server ask for a compaction, and run it in a process of its own."""
        process = self.servers.get(step.who)
        if process is None:
            compactor_arguments = [
                sys.executable,
                "-m",
                "..",
                str(self.world.root / "bundle"),
                *self.settings.arguments(),
            ]
            self.world.children.append(Child(compactor_arguments))
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
        self._check_released(process, frame)
        self.world.kill(process)
        if frame.ending:
            return
        if code not in (0, compactor.BUSY) and not _failed(step, frame) and not self.world.failed_flushes:
            raise BrokenPromiseError(f"the compaction failed, and nothing else did: {output.getvalue()}")
        if code == 0:
            self.oracle.update()
            with self.world.looking():
                checks.compacted(self.settings, self.oracle, self.bases, whole=not _failed(step, frame))

    def _update(self, step: Step) -> None:
        """Update the trained bundle with a log file."""
        clicks = late_clicks(self._clicks, step.values["sessions"])
        self._clicks += 1
        bundle_folder = self.world.root / "bundle"

        def work() -> Base:
            bundle = Bundle.load(bundle_folder)
            before = self.bases[checks.training_of(bundle.manifest)]
            log = LogFile.of(clicks, bundle.model)
            model, _ = apply_log(log, log_limits(OPEN))
            Bundle.save(
                bundle_folder, model, metrics=bundle.metrics, dataset=bundle.dataset, overwrite=True, instead_of=bundle
            )
            if not log.fresh.all():
                return before
            items = [clicks.item_ids[item] for item in clicks.items.tolist()]
            added = tuple(tuple(items[at : at + 2]) for at in range(0, len(items), 2))
            counts = sum((Counter(set(one)) for one in added), before.counts)
            return Base("", counts, before.updates + added)

        self._publish_with("updater", step, work)

    def _publish(self, step: Step) -> None:
        """Put another training in the place of the trained bundle."""
        other = trained(1 + self._clicks % 2)

        def work() -> Base:
            Bundle.save(
                self.world.root / "bundle", other.model, metrics={}, dataset={"name": "x", "fingerprint": "y"},
                overwrite=True,
            )  # fmt: skip
            return Base(other.training, other.counts)

        self._publish_with("trainer", step, work)

    def _publish_with(self, name: str, step: Step, work: Any) -> None:
        process = self.world.new_process(name)
        base: Base | None = None
        with self.world.step(process, step) as frame:
            try:
                base = work()
            except MtawError as error:
                self.world.tell(f"  {name} fails: {error}")
                if not _failed(step, frame):
                    raise BrokenPromiseError(f"{name} fails, and nothing else did: {error}") from None
        self._check_released(process, frame)
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

    # Checks

    def _base_of(self, process: Process) -> Base:
        return self.bases[checks.training_of(process.rec.bundle.manifest)]

    def _check(self, process: Process) -> None:
        with self.world.looking():
            self._compare(process)

    def _compare(self, process: Process) -> None:
        self.oracle.update()
        if process.rec.log_position < process.position:
            raise BrokenPromiseError(f"{process.name} goes back from {process.position} to {process.rec.log_position}")
        process.position = process.rec.log_position
        checks.served(process, self.oracle, self._base_of(process), exact=not self.history.settings["guarded"])
        others = [one for one in self.servers.values() if one is not process and one.alive and not one.busy]
        for other in others:
            checks.agree(process, other)

    def _end(self) -> None:
        """Let everything come to rest without faults, and check all of it."""
        self.world.tell("the end: no faults from here on")
        for name in SERVERS:
            process = self.servers.get(name)
            if process is not None and not self._is_current(process):
                self._steps([Step("stop", name)])
        self._steps([Step("start", name) for name in SERVERS[:2]])
        self._rest()
        self._steps([Step("compact", "A", {"wait": False})])
        self._rest()
        self._steps([Step("start", "C")])
        self._rest()
        for name in SERVERS:
            process = self.servers[name]
            checks.answers(process.rec)
            if checks.training_of(process.rec.bundle.manifest) != checks.training_of(
                checks.manifest_in(self.world.root / "bundle")
            ):
                raise BrokenPromiseError(f"{name} serves another training than the one in its folder")
            if process.rec.log_position < self.oracle.end:
                raise BrokenPromiseError(
                    f"{name} has learned up to {process.rec.log_position} of {self.oracle.end} only"
                )
            manifest = checks.manifest_in(self.settings.folder / "bundle")
            if process.rec.bundle.manifest != manifest:
                raise BrokenPromiseError(f"{name} does not serve the compacted bundle")
        if self.history.settings["guarded"]:
            checks.guarded(self.settings, self.oracle)
        self._steps([Step("stop", name) for name in SERVERS])

    def _is_current(self, process: Process) -> bool:
        manifest = checks.manifest_in(self.world.root / "bundle")
        return checks.training_of(process.rec.bundle.manifest) == checks.training_of(manifest)

    def _rest(self) -> None:
        for ms in (700_000, 1_000, 1_000):
            for name in SERVERS:
                if name in self.servers:
                    self._steps([Step("turn", name, {"ms": ms})])


class _ToStory(logging.Handler):
    def __init__(self, world: World, folder: Path) -> None:
        super().__init__()
        self._world, self._folder = world, folder

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.frames and not self._world.frames[-1].process.alive:
            return
        message = record.getMessage()
        self._world.tell(f"  log: {message}")
        if message.startswith("cannot switch to the compacted bundle") and self._world.frames:
            self._world.frames[-1].process.behind = checks.redacted_until(self._folder)
        if record.exc_info and record.exc_info[0] is not None:
            self._world.tell(f"  log: an unexpected {record.exc_info[0].__name__}")


def _failed(step: Step, frame: Any) -> bool:
    """Return whether a call failed in this step, so that an error is no surprise."""
    return any(one.kind in ("error", "full") and one.call <= frame.calls for one in step.faults)


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
