"""What takes the place of the product's parts while a history runs: the host, the log lines, and constants."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtaw_fast.bundle import Model, writer
from mtaw_fast.bundle import bundle as bundle_module
from mtaw_fast.bundle.reader import read_bundle
from mtaw_fast.online import follower
from mtaw_fast.online.compaction import compactor
from mtaw_fast.online.log import table_parts
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.state import guards
from tests.simulation import checks
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.stage import Stage

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
        stack.enter_context(stage.world.in_place())
        yield


class _BundleReader:
    """Reads a bundle as always, or, in a step without faults, returns what the same files were read as before."""

    def __init__(self, world: World) -> None:
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


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value
