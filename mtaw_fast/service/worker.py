"""One worker process: it loads the bundle, reports to the supervisor, and serves until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from multiprocessing.connection import Connection
from typing import Any

import uvicorn
import uvloop

from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.service.app import make_app, make_service
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.feedback_store import keep_days
from mtaw_fast.service.http.acceptor import Acceptor
from mtaw_fast.service.http.connection import TimedProtocol
from mtaw_fast.service.http.open_connections import OpenConnections
from mtaw_fast.service.observability.counters import HEARTBEAT, PID
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.observability.service_log import configure_logging, flush_log, log_event
from mtaw_fast.service.origins import Origins
from mtaw_fast.service.resources import SharedMemory, connection_limit
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import load_snapshot, signature
from mtaw_fast.service.state import Service

_LOG = logging.getLogger("mtaw_fast.service")
_TICK = 0.25  # seconds between heartbeats
_NEXT_REQUEST = 1.0  # seconds at shutdown in which a kept connection may bring one more request
_TO_CLOSE = 0.5  # seconds that its client then has to close it
_LAST_ANSWERS = 1.0  # seconds of the shutdown timeout that are left for the answers to unfinished requests
_SWITCH_SECONDS = 0.0002  # for which long work in a thread may keep the event loop waiting: Python's own is 5 ms
_STOP_INTERVAL = 0.02  # seconds between checks of what is left


def run_worker(
    settings: Settings,
    listener: socket.socket,
    counters: SharedMemory,
    origins: SharedMemory | None,
    row: int,
    supervisor: Connection,
) -> None:
    """Run the worker process.

    Parameters
    ----------
    counters : SharedMemory
        The counters of all workers.
    origins : SharedMemory, optional
        The origins of open clicks, if the service takes any.
    row : int
        This worker's row of both.
    supervisor : Connection
        Receives ("ready", version), ("failed", reason) or, after wrong use, ("misused", reason). When its other end
        closes, the worker stops.
    """
    for signum in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to every process; only the supervisor acts
        signal.signal(signum, signal.SIG_IGN)
    configure_logging()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()  # what is imported stays: to look at all of it would stop the event loop for 50 ms now and then
    try:
        metrics = Metrics.open(counters, settings.workers, row, settings.arms)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            guarded = None if origins is None else Origins(origins, settings, row)
            runner.run(_serve(settings, listener, metrics, guarded, supervisor))
    except MtawError as error:
        supervisor.send(("misused" if isinstance(error, UsageError) else "failed", str(error)))
    except OSError as error:
        supervisor.send(("failed", f"{error.filename or settings.bundle}: {error.strerror or error}"))
    except Exception:
        _LOG.exception("worker_broke")  # without this, multiprocessing prints a traceback into the log
        raise SystemExit(1) from None
    finally:
        flush_log()


async def _serve(
    settings: Settings, listener: socket.socket, metrics: Metrics, origins: Origins | None, supervisor: Connection
) -> None:
    limits = settings.limits
    # No variable for a snapshot: this frame lives as long as the worker, and would keep the first bundle in memory.
    first, *others = [_reloader(settings, metrics, number) for number in range(len(settings.served))]
    TimedProtocol.read_timeout = limits.read_timeout
    connections = TimedProtocol.open_connections = OpenConnections(limits.deadline)
    service = make_service(settings, first, metrics, others, lambda: len(connections.working) == 1, origins)
    server = _Server(service, supervisor)
    tasks = [asyncio.create_task(_tick(service, server))]
    tasks += [asyncio.create_task(reloader.watch()) for reloader in service.bundles]
    if settings.feedback_retention is not None and service.feedback is not None and metrics.first_worker:
        tasks.append(asyncio.create_task(keep_days(service.feedback, settings.feedback_retention)))
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        metrics.tick()
        service.queue.close()
        for store in (service.sessions, service.feedback):
            if store is not None:
                await store.close()
        for reloader in service.bundles:
            reloader.snapshot.recommender.close()


def _reloader(settings: Settings, metrics: Metrics, number: int) -> Reloader:
    """Load bundle `number` of `settings.served`, from 0."""
    folder, name = settings.served[number]
    seen = signature(folder)
    snapshot = load_snapshot(folder, settings.encoder, settings.index, settings.learn_at(number), name, settings.state)
    return Reloader(settings, snapshot, seen, metrics, number)


class _Server(uvicorn.Server):
    """uvicorn's server, which reports to the supervisor when it is ready, and shuts down gracefully."""

    def __init__(self, service: Service, supervisor: Connection) -> None:
        super().__init__(
            uvicorn.Config(
                make_app(service),
                http=TimedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )
        self._service, self._supervisor = service, supervisor
        self.acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, then tell the supervisor."""
        await super().startup([])
        service = self._service
        service.metrics.add("mtaw_worker_starts_total")
        service.metrics.counters.own[PID] = os.getpid()
        self.acceptors = [self._acceptor(listener) for listener in sockets or []]
        self._supervisor.send(("ready", service.reloader.snapshot.version))
        asyncio.get_running_loop().add_reader(self._supervisor.fileno(), self._supervisor_gone)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 (the supervisor closes them)
        """Stop accepting, answer the requests on open connections, and close them.

        uvicorn itself closes connections on which a request is on its way, and answers 500 at the timeout.
        """
        loop, timeout = asyncio.get_running_loop(), self._service.settings.shutdown_timeout
        open_connections, state = TimedProtocol.open_connections, self.server_state
        self._service.stopping = open_connections.stopping = True
        for acceptor in self.acceptors:
            acceptor.close()
        for connection in list(state.connections):
            connection.shutdown()
        began = loop.time()
        ends_idle, ends_all = began + min(_NEXT_REQUEST, timeout / 2), began + timeout - min(_LAST_ANSWERS, timeout / 4)
        cancelled = False
        while (state.connections or state.tasks) and loop.time() < ends_all + _LAST_ANSWERS:
            await asyncio.sleep(_STOP_INTERVAL)
            now = loop.time()
            for idle in open_connections.idle if now >= ends_idle else ():
                idle.end()
            for idle in open_connections.idle if now >= ends_idle + _TO_CLOSE else ():
                idle.transport.close()
            if now >= ends_all and not cancelled:
                cancelled = True
                for task in list(state.tasks):
                    task.cancel()  # the middleware then answers 503
        for connection in list(state.connections):
            connection.transport.abort()
        await self.lifespan.shutdown()

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        state = self.server_state

        def make_protocol() -> asyncio.Protocol:
            return TimedProtocol(config=self.config, server_state=state, app_state=self.lifespan.state)

        settings = self._service.settings
        limit = connection_limit(settings.limits.connections)
        if limit < settings.limits.connections:
            log_event("fewer_connections", level="warning", most=limit, asked=settings.limits.connections)
        make_room = TimedProtocol.open_connections.make_room
        return Acceptor(listener, make_protocol, state.connections, self._service.metrics.counters, limit, make_room)

    def _supervisor_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._supervisor.fileno())
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Stop on SIGTERM; unlike with uvicorn, the process then ends with status 0."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: setattr(self, "should_exit", True))
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)


async def _tick(service: Service, server: _Server) -> None:
    """Regular work: the heartbeat, gauges, expired sessions and slow clients."""
    loop, cells = asyncio.get_running_loop(), service.metrics.counters.own
    due = loop.time()
    while True:
        cells[HEARTBEAT] += 1
        service.gauge()
        for acceptor in server.acceptors:
            acceptor.publish_count()
        for connection in list(server.server_state.connections):
            assert isinstance(connection, TimedProtocol)
            connection.expire(due)  # not later: what came while the process stood still is not read yet
        due = loop.time() + _TICK
        await asyncio.sleep(_TICK)
