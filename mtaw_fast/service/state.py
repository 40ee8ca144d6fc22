"""What the routes of one worker share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection

from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.service.bundles import Bundles, Reloader
from mtaw_fast.service.feedback_store import FeedbackStore
from mtaw_fast.service.observability.metrics import REFUSALS, SHARE_CELLS, Metrics
from mtaw_fast.service.observability.metrics_page import MetricsPage
from mtaw_fast.service.origins import Origins
from mtaw_fast.service.recording import CountedReports, Recorder
from mtaw_fast.service.request_queue import RequestQueue
from mtaw_fast.service.sessions.in_memory import SessionStore
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import Snapshot
from mtaw_fast.service.watching import Watch

_VERSION = "mtaw_version"  # key in a request's scope: the version that its response names


@dataclass(slots=True, eq=False)
class Service:
    """The parts of one worker.

    stopping: whether it shuts down. partial_bodies: bytes of the request bodies that have not arrived completely.
    appending: events that threads are writing to the log. origins: judges open clicks, if the service takes any.
    recorder, reports: what feedback needs. watch: counts what a shop watches. metrics_page: the answer of /metrics.
    """

    settings: Settings
    metrics: Metrics
    bundles: Bundles
    queue: RequestQueue
    sessions: SessionStore | None
    feedback: FeedbackStore | None = None
    origins: Origins | None = None
    stopping: bool = False
    partial_bodies: int = 0
    appending: int = 0
    recorder: Recorder = field(init=False)
    reports: CountedReports = field(init=False)
    watch: Watch = field(init=False)
    metrics_page: MetricsPage = field(init=False)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.feedback, dict(zip(self.settings.arms, self.bundles.shares, strict=False)))
        self.reports = CountedReports(self.metrics.counters.reports)
        self.watch = Watch(self.metrics, self.bundles, self.settings.drift_threshold)
        self.metrics_page = MetricsPage(self.gauge, self._metrics_text, self.settings.metrics_interval)

    @property
    def learns(self) -> bool:
        """Whether the service learns from clicks."""
        return self.settings.learn is not None

    @property
    def learners(self) -> list[OnlineLearner]:
        """The online learner of every bundle; none if the service does not learn. They share one log."""
        learners = (reloader.snapshot.recommender.learner for reloader in self.bundles)
        return [learner for learner in learners if learner is not None]

    @property
    def reloader(self) -> Reloader:
        """The reloader of the bundle that is served, of the first if there are several."""
        return self.bundles.first

    def take(self, request: Request[Any, Any, Any], session: str | None = None) -> Snapshot:
        """Return the snapshot that answers `request`; the response names its version.

        session: the session's id, which decides among several bundles.
        """
        snapshot = self.bundles.of(session).snapshot
        self.name_version(request.scope, snapshot.version)
        return snapshot

    def name_version(self, scope: Any, version: str) -> None:
        """Set the version that the response to the request of an ASGI scope names."""
        scope[_VERSION] = version

    def gauge(self) -> None:
        """Update this worker's gauges, and delete expired sessions."""
        self.metrics.set("mtaw_queue_length", self.queue.length)
        self.metrics.tick()
        self.watch.tick()
        self._gauge_learning()
        if self.sessions is not None:
            usage = self.sessions.sweep()
            self.metrics.set("mtaw_sessions", usage.sessions)
            self.metrics.set("mtaw_sessions_bytes", usage.bytes)

    def _metrics_text(self) -> str:
        names = {name for snapshot in self.bundles.snapshots for name in snapshot.recommender.placements}
        lines = (*self.metrics.placement_lines(names), *self.watch.lines())
        return self.metrics.text() + "".join(f"{line}\n" for line in lines)

    def _gauge_learning(self) -> None:
        """Set the gauges of learning. They are the same in every worker, so only the first one sets them."""
        if not self.metrics.first_worker:
            return
        if self.origins is not None:
            share = self.origins.busiest_share() or 0.0
            self.metrics.set("mtaw_busiest_origin_share", round(SHARE_CELLS * share))
        for arm, learner in enumerate(self.learners):
            event_processor, delta, label = learner.state.event_processor, learner.state.delta, str(arm)
            self.metrics.set("mtaw_learned_clicks", event_processor.learned_clicks, label)
            self.metrics.set("mtaw_delta_clicks", delta.n_clicks, label)
            self.metrics.set("mtaw_delta_bytes", delta.n_bytes, label)
            self.metrics.set("mtaw_new_items", len(event_processor.items.new_items), label)
            self.metrics.set("mtaw_damaged_records", learner.log.damaged, label)
            self.metrics.set("mtaw_learning_lag_events", learner.follower.lag, label)
            self.metrics.set("mtaw_learning_lag_seconds", round(1000 * learner.follower.lag_seconds), label)
            self.metrics.set("mtaw_clock_jump_seconds", learner.clock_jump // 1000, label)
            self.metrics.set("mtaw_learning_stopped", int(learner.follower.failure is not None), label)
            for reason in REFUSALS:
                count = event_processor.refused[reason] + event_processor.tracker.refused[reason]
                self.metrics.set("mtaw_not_learned_clicks", count, label, reason)

    def version_for(self, scope: Any) -> str:
        """Return the version that the response to the request of an ASGI scope names.

        It is that of the request's snapshot. Without one it is the version served at the first call, and stays so.
        """
        return scope.setdefault(_VERSION, self.reloader.snapshot.version)


def service_of(request: ASGIConnection[Any, Any, Any, Any]) -> Service:
    """Return the worker's parts, for a route handler."""
    return request.app.state.service
