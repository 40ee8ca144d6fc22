"""Taking a new bundle into service while the old one goes on answering."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from mtaw_fast.errors import MtawError
from mtaw_fast.service.background import in_background
from mtaw_fast.service.observability.counters import VERSION
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.observability.version_counters import version_cell
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import Snapshot, current_version, load_snapshot, signature

_TICK = 0.25  # seconds between glances at what other workers ask for

Looked = Literal["loaded", "unchanged"]


class Reloader:
    """Holds the snapshot that answers are made from, and replaces it when the folder holds another bundle.

    `snapshot` changes in one assignment: a request takes it once and ends on it. A bundle that cannot be loaded
    changes nothing, and is not tried again until the manifest changes or somebody asks.
    """

    def __init__(self, settings: Settings, snapshot: Snapshot, seen: object, metrics: Metrics, place: int = 0) -> None:
        """seen: the manifest's `signature` from before `snapshot` was loaded. place: among `settings.served`."""
        self._settings, self._metrics = settings, metrics
        self._served, self._place = settings.served[place], place
        self._seen = seen
        self._looking = asyncio.Lock()
        self._heeded = metrics.counters.looks
        self._take(snapshot)

    def _take(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._metrics.counters.own[VERSION + self._place] = version_cell(snapshot.version)
        self._metrics.serve(snapshot.version)

    async def look(self) -> Looked:
        """Load what is in the folder if it is another bundle. Raises MtawError where that is refused."""
        async with self._looking:
            settings, (folder, name) = self._settings, self._served
            self._seen = signature(folder)
            try:
                if await in_background(lambda: current_version(folder)) == self.snapshot.version:
                    return "unchanged"
                start = time.perf_counter()
                fresh = await in_background(
                    lambda: load_snapshot(folder, settings.encoder, settings.index, settings.learn, name)
                )
                if name is not None and fresh.recommender.ids.kind != self.snapshot.recommender.ids.kind:
                    kind = fresh.recommender.ids.kind
                    raise MtawError(f"{folder}: the new bundle's ids are {kind}, unlike those of the one beside it")
            except Exception as error:
                # Whatever a damaged bundle leads to, the old one goes on.
                self._metrics.add("mtaw_reloads_total", "refused")
                why = str(error) if isinstance(error, MtawError) else f"{type(error).__name__}: {error}"
                log_event("reload_refused", level="error", reason=why, version=self.snapshot.version)
                raise MtawError(why) from None
            before, seconds, old = self.snapshot.version, time.perf_counter() - start, self.snapshot.recommender
            self._take(fresh)
            await in_background(old.close)
            self._metrics.add("mtaw_reloads_total", "loaded")
            named = {} if name is None else {"bundle": name}
            log_event("reload", version=fresh.version, before=before, seconds=round(seconds, 3), **named)
            return "loaded"

    def heed(self) -> None:
        """Take what workers were asked for up to now as done: this one is about to look."""
        self._heeded = self._metrics.counters.looks

    async def watch(self) -> None:
        """Look whenever the manifest changes or somebody asks, for as long as the worker lives."""
        counters = self._metrics.counters
        next_glance = time.monotonic() + self._settings.reload_interval
        while True:
            await asyncio.sleep(min(_TICK, self._settings.reload_interval))
            asked = counters.looks != self._heeded
            if not asked and time.monotonic() < next_glance:
                continue
            self._heeded = counters.looks
            next_glance = time.monotonic() + self._settings.reload_interval
            if asked or signature(self._served.folder) != self._seen:
                try:
                    await self.look()
                except MtawError:
                    continue  # logged and counted by `look`
