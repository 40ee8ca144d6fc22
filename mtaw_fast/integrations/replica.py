"""One replica of the HTTP service, in a process of Ray Serve: the service's own app behind Serve's proxy."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from typing import Any

from mtaw_fast.errors import require
from mtaw_fast.integrations.cluster import one_line
from mtaw_fast.integrations.replica_registry import PERIOD, ReplicaCounters, Report, registry_of
from mtaw_fast.service.app import make_app, make_service
from mtaw_fast.service.background import in_background
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.observability.counters import PID
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.observability.service_log import configure_logging, log_event
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import check_version, load_snapshot, signature

PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"  # on every machine with a replica: a password does not go through Ray


class Mounted:
    """An ASGI app below a prefix: it sees paths without it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        prefix = scope.get("root_path", "")
        if prefix and scope["type"] == "http":
            path, raw = scope["path"].removeprefix(prefix), scope["raw_path"].removeprefix(prefix.encode())
            scope = {**scope, "root_path": "", "path": path or "/", "raw_path": raw or b"/"}
        await self._app(scope, receive, send)


class Replica:
    """What Serve starts, asks how it is, and replaces. It serves one bundle for as long as it lives.

    Parameters
    ----------
    settings : Settings
        Of the service.
    version : str
        The bundle that the folder must hold on this machine too.
    name : str
        Of the deployment.

    Raises
    ------
    MtawError
        Where the bundle is another one or cannot be served: Serve tells whoever deploys.
    """

    def __init__(self, settings: Settings, version: str, name: str) -> None:
        configure_logging()
        self._ray = require("ray", "ray")
        self._name, self._registry = name, registry_of(self._ray, name)
        self._replica: str = require("ray.serve", "ray").get_replica_context().replica_id.unique_id
        password = os.environ.get(PASSWORD_VARIABLE, "").strip() or None
        settings = dataclasses.replace(settings, sessions_password=password)
        snapshot = load_snapshot(settings.bundle, settings.encoder, settings.index)
        check_version(settings.bundle, snapshot.version, version)
        self._counters = ReplicaCounters()
        metrics = Metrics(self._counters, 0)
        self._service = make_service(
            settings, Reloader(settings, snapshot, signature(settings.bundle), metrics), metrics
        )
        self._counters.own[PID] = os.getpid()
        metrics.add("mtaw_worker_starts_total")
        self._reporting: asyncio.Task[None] | None = None

    async def __serve_build_asgi_app__(self) -> Mounted:
        """The app, on the event loop that it will run on."""
        await self._report()
        self._reporting = asyncio.create_task(self._report_on())
        return Mounted(make_app(self._service))

    def check_health(self) -> None:
        """Make a ranking; where that fails, Serve puts another replica in the place of this one.

        The session store's and the registry's health is not this replica's: another one would find them no better.
        """
        recommender = self._service.reloader.snapshot.recommender
        recommender.recommend(recommender.ids.external(recommender.bundle.most_clicked[:1]), 1)

    async def _report_on(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self._report()
                failing = False
            except Exception as error:  # whatever it is: a task that has ended says nothing, and the replica seems gone
                if not failing:  # said once, until it is over
                    log_event("report_failed", level="error", reason=f"{type(error).__name__}: {one_line(error)}")
                failing = True

    async def _report(self) -> None:
        """Tell the registry, and learn of the others. While it is away, what it last told holds."""
        self._service.gauge()
        report = Report(
            self._replica, socket.gethostname(), os.getpid(), self._service.reloader.snapshot.version,
            self._service.queue.length, self._counters.own_counts(), self._counters.own_by_version(),
        )  # fmt: skip
        try:
            self._counters.others = await self._registry.exchange.remote(report)
        except self._ray.exceptions.RayError as error:
            log_event("roster_unavailable", level="warning", reason=type(error).__name__)
            with contextlib.suppress(Exception):  # Ray's own head is away, of which every layer tells otherwise: later
                self._registry = await in_background(lambda: registry_of(self._ray, self._name))
