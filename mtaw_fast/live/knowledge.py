"""What a recommender knows beyond its bundle: a log, the state that follows it, and the bundle that it grows into.

A folder to learn in holds

    log.json, events-*.log      the log (`live.log`)
    bundle/                     the model with what was learned so far taken in, made by `live.compactor`

Any number of processes share it. Each follows the log by itself; one at a time takes what was learned into `bundle`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST, model_hash
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.live.events import Event
from mtaw_fast.live.learner import Learner
from mtaw_fast.live.log import EventLog
from mtaw_fast.live.settings import LearningSettings
from mtaw_fast.live.state import LiveState
from mtaw_fast.ranking.catalog import Catalog

GROWN = "bundle"
_LOOK_SECONDS = 0.5


def newest_bundle(folder: str | os.PathLike[str], learned: Path, verify: bool) -> Bundle:
    """The bundle that what was learned in `learned` has grown `folder`'s into; `folder`'s own where there is none.

    Raises
    ------
    BundleError
        Where `folder`'s bundle is damaged. A damaged grown one is passed over: the log makes it again.
    """
    given = Bundle.load(folder, verify=verify)
    if (learned / GROWN / MANIFEST).exists():
        try:
            grown = Bundle.load(learned / GROWN, verify=verify)
        except BundleError:
            return given
        if grown.manifest.get("grown_from") == model_hash(given.manifest):
            return grown
    return given


class Knowledge:
    """Follows a log for one recommender.

    Parameters
    ----------
    folder : path
        The bundle that a training made.
    log : EventLog
        Where events are kept.
    settings : LearningSettings
        Where and how much is learned.
    publish : callable
        Called with a bundle and the newest state of its catalog whenever there is one, from a thread of this object.
    verify : bool
        Whether bundles are checked when they are loaded.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        log: EventLog,
        settings: LearningSettings,
        publish: Callable[[Bundle, Catalog], None],
        verify: bool,
    ) -> None:
        self._folder, self.log, self._settings, self._verify = folder, log, settings, verify
        self._publish = publish
        self._stopped = threading.Event()
        self._compactor: subprocess.Popen[bytes] | None = None
        self._asked = time.monotonic()
        self._seen = self._signature()
        self.bundle = newest_bundle(folder, settings.folder, verify)
        self._begin(self.bundle)
        self._watch = threading.Thread(target=self._look_for_ever, name="mtaw-knowledge", daemon=True)
        self._watch.start()

    def _begin(self, bundle: Bundle) -> None:
        if bundle.model.memory is None:
            raise UsageError(
                f"the bundle {self._folder} has no session memory, so it cannot learn; train it with --preset full"
            )
        state = LiveState(bundle.model, self._settings.limits)
        learner = Learner(self.log, state, lambda catalog: self._publish(bundle, catalog))
        learner.start()
        self.bundle, self.state, self.learner = bundle, state, learner

    def append(self, events: Sequence[Event], wait: bool = False) -> str:
        """Keep events; returns the position after them. wait: until they are learned here."""
        position = self.log.append(events)
        if wait:
            self.learner.catch_up()
        else:
            self.learner.wake()
        return position

    def stop(self) -> None:
        """End all threads; a compaction under way is left to end by itself."""
        self._stopped.set()
        self.learner.stop()
        self._watch.join()
        self.log.close()

    def _signature(self) -> tuple[int, int] | None:
        try:
            status = (self._settings.folder / GROWN / MANIFEST).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _look_for_ever(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            if self._signature() != self._seen:
                self._switch()
            elif self._is_due():
                self.compact()

    def _switch(self) -> None:
        """Go on from a newly grown bundle; the old state answers until the new one is at the log's end."""
        self._seen = self._signature()
        fresh = newest_bundle(self._folder, self._settings.folder, self._verify)
        if fresh.manifest == self.bundle.manifest:
            return
        before = self.learner
        self._begin(fresh)
        before.stop()

    def _is_due(self) -> bool:
        running = self._compactor is not None and self._compactor.poll() is None
        if running or not self._settings.compact:
            return False
        waited = time.monotonic() - self._asked
        clicks = self.state.delta.n_clicks
        return clicks >= self._settings.compact_clicks or (waited >= self._settings.compact_seconds and clicks > 0)

    def compact(self, wait: bool = False) -> None:
        """Take what was learned into the grown bundle, in a process of its own; another's turn is left to it."""
        self._asked = time.monotonic()
        command = [sys.executable, "-m", "mtaw_fast.live.compactor", str(self._folder), *self._settings.arguments()]
        self._compactor = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        if wait and self._compactor.wait() == 0 and self._signature() != self._seen:
            self._switch()
