"""What the routes of a worker share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection

from mtaw_fast.service.bundles import Bundles
from mtaw_fast.service.feedback.stores import FeedbackStore
from mtaw_fast.service.observability.metrics import REFUSALS, Metrics
from mtaw_fast.service.reload import Reloader
from mtaw_fast.service.request_queue import RequestQueue
from mtaw_fast.service.sessions.in_memory import SessionStore
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import Snapshot

_VERSION = "mtaw_version"  # in a request's scope: the version that its answer carries


@dataclass(slots=True, eq=False)
class Service:
    """One worker's parts. stopping: whether it takes no new requests. partial_bodies: bytes of bodies that are not
    whole yet."""

    settings: Settings
    metrics: Metrics
    bundles: Bundles
    queue: RequestQueue
    sessions: SessionStore | None
    feedback: FeedbackStore | None = None
    stopping: bool = False
    partial_bodies: int = 0

    @property
    def learns(self) -> bool:
        """Whether clicks teach."""
        return self.settings.learn is not None

    @property
    def reloader(self) -> Reloader:
        """Of the bundle that is served; of the first where there are several."""
        return self.bundles.first

    def take(self, request: Request[Any, Any, Any], session: str | None = None) -> Snapshot:
        """The snapshot that answers `request` from now on, which the response names as its version. session: whose it
        is, which decides where several bundles are served."""
        snapshot = self.bundles.of(session).snapshot
        self.name_version(request.scope, snapshot.version)
        return snapshot

    def name_version(self, scope: Any, version: str) -> None:
        """Let the response to the request of an ASGI scope name `version`."""
        scope[_VERSION] = version

    def gauge(self) -> None:
        """Bring this worker's gauges up to date, and forget expired sessions."""
        self.metrics.set("mtaw_queue_length", self.queue.length)
        self._gauge_learning()
        if self.sessions is not None:
            held = self.sessions.sweep()
            self.metrics.set("mtaw_sessions", held.sessions)
            self.metrics.set("mtaw_sessions_bytes", held.bytes)

    def _gauge_learning(self) -> None:
        """Every worker learns the same: one of them tells."""
        learner = self.reloader.snapshot.recommender.learner
        if learner is None or not self.metrics.tells:
            return
        event_processor, delta = learner.state.event_processor, learner.state.delta
        self.metrics.set("mtaw_learned_clicks", event_processor.learned_clicks)
        self.metrics.set("mtaw_delta_clicks", delta.n_clicks)
        self.metrics.set("mtaw_delta_bytes", delta.n_bytes)
        self.metrics.set("mtaw_new_items", len(event_processor.new_items))
        self.metrics.set("mtaw_damaged_records", learner.log.damaged)
        self.metrics.set("mtaw_learning_stopped", int(learner.follower.failure is not None))
        for reason in REFUSALS:
            count = event_processor.refused[reason] + event_processor.tracker.refused[reason]
            self.metrics.set("mtaw_not_learned_clicks", count, reason)

    def version_for(self, scope: Any) -> str:
        """The version that the response to the request of an ASGI scope names: that of the snapshot it took, or, where
        it took none, of the one that is served now; asked again, the same."""
        return scope.setdefault(_VERSION, self.reloader.snapshot.version)


def service_of(request: ASGIConnection[Any, Any, Any, Any]) -> Service:
    """The worker's parts, for a route handler."""
    return request.app.state.service
