"""What a history runs on: the simulated host, which takes the place of the real one, the services on it, and what was
asked of them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model, writer
from mtaw_fast.bundle import bundle as bundle_module
from mtaw_fast.bundle.reader import read_bundle
from mtaw_fast.errors import MtawError
from mtaw_fast.online import follower
from mtaw_fast.online.compaction import compactor
from mtaw_fast.online.log import table_parts
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from mtaw_fast.online.state import guards
from tests.simulation import checks
from tests.simulation.history import History, Step, line_of
from tests.simulation.oracle import Base, BrokenPromiseError, Oracle, records_of
from tests.simulation.redis_stream import RedisStream
from tests.simulation.simulated_host import SimulatedHost
from tests.simulation.templates import BASE_ITEMS, TRAINED_MS, Trained, trained
from tests.simulation.world import Frame, Process

HUGE = 1 << 20
OPEN = LearningLimits(
    new_items=64, session_clicks=HUGE, burst_clicks=HUGE, item_floor=HUGE, pair_floor=HUGE, late=10 * 86_400_000,
    new_floor=HUGE, origin_items=HUGE, origin_new=HUGE,
)  # fmt: skip
GUARDED = LearningLimits(new_items=64, session_clicks=6, burst_clicks=8, item_floor=1000, pair_floor=2, pair_share=0.01)


class Stage:
    """The state of one run of a history. Subclasses have a method for each kind of step, `_` and its name."""

    def __init__(self, history: History) -> None:
        self.history, settings = history, history.settings
        self.folder = Path(tempfile.mkdtemp(prefix="mtaw-simulation-", dir=_memory_disk()))
        base = trained(0, settings["timed"])
        shutil.copytree(base.folder, self.folder / "bundle", copy_function=os.link)
        self.world = SimulatedHost(self.folder, history.seed, self.play)
        self.world.redis = RedisStream(self.world)
        self.world.on_power = self._power_was_lost
        limits = replace(GUARDED if settings["guarded"] else OPEN, session_gap=settings["gap"])
        self.settings = learning = LearningSettings(
            self.folder / "learned", "redis://simulated:6379/0?stream=s" if settings["redis"] else None,
            fsync=settings["fsync"], compact=False, limits=limits, max_log_bytes=settings["max_log_bytes"],
        )  # fmt: skip
        self.places = [
            (self.folder / "bundle", learning)
        ]  # the trained bundle of each group of servers, and its settings
        if settings["groups"] > 1 and settings["redis"]:
            self.places.append((self.folder / "bundle", replace(learning, folder=self.folder / "learned of B")))
        elif settings["groups"] > 1:
            other = trained(1, settings["timed"])
            shutil.copytree(other.folder, self.folder / "other", copy_function=os.link)
            bundles = [self.folder / "bundle", self.folder / "other"]
            self.places = list(zip(bundles, learning.of_arms(bundles), strict=True))
        self.oracle = Oracle(self.records, BASE_ITEMS, settings["gap"], lambda name: self.world.ids[name].step.values)
        self.bases = {one.training: one for one in (_base_of(trained(seed, settings["timed"])) for seed in range(2))}
        self.servers: dict[str, Process] = {}
        self._flush_failures = 0
        self._served: dict[Process, tuple[Any, ...]] = {}  # what was checked last
        self._agreed: dict[tuple[Process, Process], tuple[Any, ...]] = {}

    @property
    def keeps_at_once(self) -> bool:
        """Whether what is acknowledged survives a power loss from then on."""
        return self.settings.fsync or self.settings.stream is not None

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the log's records by position."""
        if self.settings.stream is None:
            return records_of(self.settings.folder)
        return {
            f"{ms:015d}-{number:010d}": json.loads(fields[b"e"])
            for (ms, number), fields in self.world.redis.entries.items()
        }  # fmt: skip

    def place_of(self, who: str) -> tuple[Path, LearningSettings]:
        """Return the trained bundle of a server, and where it learns."""
        return self.places[-1 if who == "B" else 0]

    def play(self, steps: Sequence[Step]) -> None:
        """Run steps."""
        for step in steps:
            lost = self.world.powered
            process = self.servers.get(step.who)
            if process is not None and process.busy:
                continue  # it is inside a call
            self.world.tell(line_of(step))
            getattr(self, f"_{step.what}")(step)
            for name in [name for name, server in self.servers.items() if not server.alive]:
                del self.servers[name]
            if self.world.failed_flushes > self._flush_failures:
                self._flush_failures = self.world.failed_flushes
                self.oracle.flush_failed()
            if self.world.powered > lost and self.world.depth:
                return  # nobody is left to run the others

    def serving(self, step: Step) -> Process | None:
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
                bundle, settings = self.place_of(step.who)
                process.rec = Recommender.load(bundle, learn=settings)
            except MtawError as error:
                failure = str(error)
        if failure:
            self.world.tell(f"  {step.who} does not start: {failure}")
            if "\n" in failure:
                raise BrokenPromiseError(f"the reason takes several lines: {failure}")
            if not frame.failed:
                raise BrokenPromiseError(f"{step.who} does not start, and nothing failed: {failure}")
        if frame.ending or failure:
            self.check_released(process, frame)
            self.world.kill(process)
            return
        self.servers[step.who] = process
        self.check(process)

    def check_released(self, process: Process, frame: Frame) -> None:
        """Check that a process that is done has no file open."""
        if not frame.ending and process.descriptors:
            raise BrokenPromiseError(f"{process.name} left {len(process.descriptors)} files open")

    def check(self, process: Process) -> None:
        """Check what a service answers."""
        with self.world.looking():
            self.oracle.update()
            if process.rec.log_position < process.position:
                raise BrokenPromiseError(
                    f"{process.name} goes back from {process.position} to {process.rec.log_position}"
                )
            process.position = process.rec.log_position
            now = (process.position, process.rec.bundle, self.oracle.version)
            if self._served.get(process) != now:
                base = self.base_of(checks.training_of(process.rec.bundle.manifest))
                checks.served(process, self.oracle, base, exact=not self.history.settings["guarded"])
                self._served[process] = now
            for other in self.servers.values():
                if other is not process and other.alive and not other.busy:
                    self._compare(process, other)

    def base_of(self, training: str) -> Base:
        """Return what a training counts; read from its bundle while the process that saved it has not ended."""
        return self.bases.get(training) or checks.base_of(Bundle.load(self.world.root / "bundle"))

    def _compare(self, process: Process, other: Process) -> None:
        now = tuple((server.rec.log_position, server.rec.bundle) for server in (process, other))
        if self._agreed.get((process, other)) == now and not self.history.settings["timed"]:
            return
        if checks.agree(process, other, self.world.ms):
            self._agreed[process, other], self._agreed[other, process] = now, now[::-1]

    def _power_was_lost(self) -> None:
        self.servers.clear()
        manifest = checks.manifest_in(self.settings.folder / "bundle")
        training = "" if manifest is None else checks.training_of(manifest)
        self.oracle.update(True, (checks.redacted_until(self.settings.folder), training))


def _base_of(bundle: Trained) -> Base:
    return Base(bundle.training, bundle.counts, TRAINED_MS)


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


_READ: dict[object, tuple[dict[str, Any], Model]] = {}  # bundles by their files
_MAX_READ = 40


@contextlib.contextmanager
def in_place(stage: Stage) -> Iterator[None]:
    """Put the simulated host, and the settings of a history, in place inside the `with`."""
    settings, defaults = stage.history.settings, FileLog.__init__.__kwdefaults__
    logger, handler = logging.getLogger("mtaw_fast"), _ToStory(stage.world, stage.settings.folder)
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (follower, "_READ_EVENTS", settings["read_events"]),
            (compactor, "_READ_EVENTS", settings["read_events"]),
            (table_parts, "_PART_BYTES", settings["part_bytes"]),
            (guards, "_CELLS", 1 << 10), (guards, "_LAST_CELL", (1 << 10) - 1),  # a small shop
            (bundle_module, "read_bundle", _BundleReader(stage.world)),
            (writer, "_commit", lambda: None), (writer, "_versions", dict),  # they start programs
        ):  # fmt: skip
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mock.patch.dict(defaults, segment_bytes=settings["segment_bytes"]))
        stack.enter_context(mock.patch.dict(os.environ, MTAW_MAPPING="map"))
        stack.enter_context(mock.patch.object(logger, "propagate", False))
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        stack.enter_context(stage.world.in_place())
        yield


class _BundleReader:
    """Reads a bundle as always, or, in a step without faults, returns what the same files were read as before."""

    def __init__(self, world: SimulatedHost) -> None:
        self._world = world

    def __call__(self, folder: Path, verify: bool, mapping: str | None) -> tuple[dict[str, Any], Model]:
        if self._world.step_has_faults or not folder.is_dir():
            return read_bundle(folder, verify, mapping)
        stats = [(entry.name, entry.stat()) for entry in os.scandir(folder)]
        key = tuple(sorted((name, status.st_ino, status.st_size, status.st_mtime_ns) for name, status in stats))
        if key not in _READ:
            if len(_READ) > _MAX_READ:
                _READ.pop(next(iter(_READ)))
            _READ[key] = read_bundle(folder, True, mapping)
        return _READ[key]


class _ToStory(logging.Handler):
    def __init__(self, world: SimulatedHost, folder: Path) -> None:
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
