"""One replica of the HTTP service in a Ray Serve process: the service's own app behind Serve's proxy."""

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
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.observability.counters import PID
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.observability.service_log import configure_logging, log_event
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import check_version, load_snapshot, signature

PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"  # on every host with a replica: a password does not go through Ray


class Mounted:
    """An ASGI app below a path prefix, which it does not see."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        prefix = scope.get("root_path", "")
        if prefix and scope["type"] == "http":
            path, raw_path = scope["path"].removeprefix(prefix), scope["raw_path"].removeprefix(prefix.encode())
            scope = {**scope, "root_path": "", "path": path or "/", "raw_path": raw_path or b"/"}
        await self._app(scope, receive, send)


class Replica:
    """The class that Serve starts, checks and replaces. A replica serves one bundle for its whole life.

    Parameters
    ----------
    settings : Settings
        The settings of the service.
    version : str
        The version of the bundle, which the folder on this host must also have.
    name : str
        The name of the deployment.

    Raises
    ------
    MtawError
        If the bundle is another one or cannot be served; Serve passes the error on to the caller of `deploy`.
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
        """Return the app; called on the event loop that it runs on."""
        await self._report()
        self._reporting = asyncio.create_task(self._report_on())
        return Mounted(make_app(self._service))

    def check_health(self) -> None:
        """Rank one session; if that fails, Serve replaces this replica.

        The session store and the registry are not checked, because another replica would not reach them either.
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
            except Exception as error:  # any error: if this task ended, the replica would seem gone
                if not failing:  # logged once, until a report succeeds
                    log_event("report_failed", level="error", reason=f"{type(error).__name__}: {one_line(error)}")
                failing = True

    async def _report(self) -> None:
        """Report to the registry and store its answer. While it is away, its last answer stays."""
        self._service.gauge()
        report = Report(
            self._replica, socket.gethostname(), os.getpid(), self._service.reloader.snapshot.version,
            self._service.queue.length, self._counters.own_counts(), self._counters.own_by_version(),
        )  # fmt: skip
        try:
            self._counters.others = await self._registry.exchange.remote(report)
        except self._ray.exceptions.RayError as error:
            log_event("registry_unavailable", level="warning", reason=type(error).__name__)
            with contextlib.suppress(Exception):  # Ray's head is away, and each layer raises another error; retry later
                self._registry = await in_background(lambda: registry_of(self._ray, self._name))
