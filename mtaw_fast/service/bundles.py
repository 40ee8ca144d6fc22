"""The bundles that a worker serves: how a new one is loaded, and which of several answers a session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal

from mtaw_fast.data.moments import warning_of_age
from mtaw_fast.data.session_point import point_of
from mtaw_fast.errors import MtawError
from mtaw_fast.service.observability.counters import VERSION, version_cell
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.observability.service_log import log_event
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import Snapshot, current_version, load_snapshot, signature

_TICK = 0.25  # seconds between looks at the reload requests of other workers
_RETRY_SECONDS = 60.0  # after a reload that learning needed and that failed

ReloadResult = Literal["loaded", "unchanged"]


class Reloader:
    """Holds the snapshot that answers are made from, and replaces it when its folder holds another bundle.

    `snapshot` changes in one assignment: a request reads it once and uses that snapshot to its end. A bundle that
    cannot be loaded changes nothing, and is tried again only when the manifest changes or a reload is requested.

    Parameters
    ----------
    snapshot : Snapshot
        The bundle that is loaded now.
    manifest_signature : object
        The manifest's `signature` from before `snapshot` was loaded.
    number : int
        The bundle's number in `settings.served`, from 0.
    """

    def __init__(
        self, settings: Settings, snapshot: Snapshot, manifest_signature: object, metrics: Metrics, number: int = 0
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._served, self._number = settings.served[number], number
        self._seen = manifest_signature
        self._reloading = asyncio.Lock()
        self.acknowledge()
        self._switch_to(snapshot)

    def _switch_to(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._metrics.counters.own[VERSION + self._number] = version_cell(snapshot.version)
        self._metrics.serve(snapshot.version)
        recommender = snapshot.recommender
        warning = warning_of_age(recommender.last_click, recommender.bundle.metrics)
        if self._metrics.first_worker and warning is not None:
            fields = {} if snapshot.name is None else {"bundle": snapshot.name}
            log_event("old_clicks", level="warning", reason=warning, version=snapshot.version, **fields)

    async def reload(self, verify: bool = False) -> ReloadResult:
        """Load the bundle in the folder if it is not the one in service. Raises MtawError if it cannot be used.

        verify: whether to read the files of a bundle in service too: the next worker to start needs them.
        """
        async with self._reloading:
            settings, (folder, name) = self._settings, self._served
            self._seen = signature(folder)
            try:
                version = await in_background(lambda: current_version(folder, verify))
                if version == self.snapshot.version and not self._must_reload:
                    return "unchanged"
                start = time.perf_counter()
                snapshot = await in_background(
                    lambda: load_snapshot(
                        folder, settings.encoder, settings.index, settings.learn_at(self._number), name, settings.state
                    )
                )
                kind = snapshot.recommender.ids.kind
                if name is not None and kind != self.snapshot.recommender.ids.kind:
                    await in_background(snapshot.recommender.close)
                    raise MtawError(f"{folder}: the new bundle's ids are {kind}, those of the other bundles are not")
            except Exception as error:  # whatever a damaged bundle raises, the old one stays in service
                self._metrics.add("mtaw_reloads_total", "refused")
                reason = str(error) if isinstance(error, MtawError) else f"{type(error).__name__}: {error}"
                log_event("reload_refused", level="error", reason=reason, version=self.snapshot.version)
                raise MtawError(reason) from None
            before, seconds, replaced = self.snapshot.version, time.perf_counter() - start, self.snapshot.recommender
            self._switch_to(snapshot)
            await in_background(replaced.close)
            self._metrics.add("mtaw_reloads_total", "loaded")
            fields = {} if name is None else {"bundle": name}
            log_event("reload", version=snapshot.version, before=before, seconds=round(seconds, 3), **fields)
            return "loaded"

    @property
    def _must_reload(self) -> bool:
        """Whether learning goes on only with a bundle that is loaded again."""
        learner = self.snapshot.recommender.learner
        return learner is not None and learner.must_reload

    def acknowledge(self) -> None:
        """Count the reload requests so far as done: the caller is about to call `reload`."""
        self._acknowledged = self._metrics.counters.reload_requests

    async def watch(self) -> None:
        """Reload when the manifest changes, a reload is requested or learning needs it, as long as the worker lives."""
        counters = self._metrics.counters
        next_check = time.monotonic() + self._settings.reload_interval
        next_try = 0.0
        while True:
            await asyncio.sleep(min(_TICK, self._settings.reload_interval))
            requested = counters.reload_requests != self._acknowledged
            if not requested and time.monotonic() < next_check:
                continue
            self.acknowledge()
            next_check = time.monotonic() + self._settings.reload_interval
            needed = self._must_reload and time.monotonic() >= next_try
            if requested or needed or signature(self._served.folder) != self._seen:
                try:
                    await self.reload(verify=requested and self._metrics.first_worker)
                except MtawError:  # `reload` has logged and counted it
                    next_try = time.monotonic() + _RETRY_SECONDS


class Bundles:
    """One bundle, or several side by side.

    Parameters
    ----------
    reloaders : sequence of Reloader
        One for each bundle.
    weights : sequence of float
        Relative share of the sessions that each bundle answers. Default: the first answers all.
    """

    def __init__(self, reloaders: Sequence[Reloader], weights: Sequence[float] = ()) -> None:
        self._reloaders = list(reloaders)
        self.first = self._reloaders[0]
        total = sum(weights)
        self.shares = [weight / total for weight in weights] or [1.0]
        self._ends = [end / total for end in accumulate(weights)][:-1]  # of all but the last, which ends at 1

    def __len__(self) -> int:
        return len(self._reloaders)

    def __iter__(self) -> Iterator[Reloader]:
        return iter(self._reloaders)

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshot of each bundle."""
        return [reloader.snapshot for reloader in self._reloaders]

    def of(self, session: str | None) -> Reloader:
        """Return the bundle that answers a session, by the session's id; the first bundle for a session without id.

        The choice depends on the weights alone. With two bundles, a change of weights moves sessions only to the
        bundle whose weight grew.
        """
        if session is None or not self._ends:
            return self.first
        point = point_of(session)
        return self._reloaders[sum(end <= point for end in self._ends)]
