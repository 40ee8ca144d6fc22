"""One worker process: loads the bundle, tells the supervisor, and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from multiprocessing.connection import Connection
from typing import Any

import uvicorn
import uvloop

from mtaw_fast.errors import MtawError
from mtaw_fast.service.app import make_app, make_service
from mtaw_fast.service.http.acceptor import Acceptor
from mtaw_fast.service.http.connection import OpenConnections, TimedProtocol
from mtaw_fast.service.http.file_limit import most_connections
from mtaw_fast.service.observability.counters import HEARTBEAT, PID
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.observability.service_log import configure_logging, flush_log, log_event
from mtaw_fast.service.reload import Reloader
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.shared_memory import SharedMemory
from mtaw_fast.service.snapshot import load_snapshot, signature
from mtaw_fast.service.state import Service

_LOG = logging.getLogger("mtaw_fast.service")
_TICK = 0.25  # seconds between signs of life, and what else happens by the clock
_NEXT_REQUEST = 1.0  # seconds that a kept connection may still bring a request at shutdown: its answer is the last one
_TO_CLOSE = 0.5  # seconds that its client has to close it then
_LAST_ANSWERS = 1.0  # seconds of the shutdown timeout that are left for the answers to what is not done
_STOPPING_LOOK = 0.02  # seconds between looks at what is left


def run_worker(
    settings: Settings, listener: socket.socket, counters: SharedMemory, row: int, supervisor: Connection
) -> None:
    """The process. row: of `counters`, its own. supervisor: told ("ready", version) or ("failed", why); when its other
    end closes, the supervisor is gone and the worker stops."""
    for one in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to every process: the supervisor decides
        signal.signal(one, signal.SIG_IGN)
    configure_logging()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listener, Metrics.open(counters, settings.workers, row), supervisor))
    except MtawError as error:
        supervisor.send(("failed", str(error)))
    except OSError as error:
        supervisor.send(("failed", f"{error.filename or settings.bundle}: {error.strerror or error}"))
    except Exception:
        _LOG.exception("worker_broke")  # multiprocessing would print a traceback among the log's lines
        raise SystemExit(1) from None
    finally:
        flush_log()


async def _serve(settings: Settings, listener: socket.socket, metrics: Metrics, supervisor: Connection) -> None:
    limits = settings.limits
    # No name for a snapshot here: this frame lives as long as the worker, the first bundle must not.
    first, *beside = [_reloader(settings, metrics, place) for place in range(len(settings.served))]
    service = make_service(settings, first, metrics, beside)
    TimedProtocol.read_timeout = limits.read_timeout
    TimedProtocol.open_connections = OpenConnections()
    server = _Server(service, supervisor)
    tasks = [asyncio.create_task(_tick(service, server))]
    tasks += [asyncio.create_task(one.watch()) for one in service.bundles]
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        service.queue.close()
        for store in (service.sessions, service.feedback):
            if store is not None:
                await store.close()
        for one in service.bundles:
            one.snapshot.recommender.close()


def _reloader(settings: Settings, metrics: Metrics, place: int) -> Reloader:
    """With the bundle at a place among `settings.served`, loaded."""
    folder, name = settings.served[place]
    seen = signature(folder)
    snapshot = load_snapshot(folder, settings.encoder, settings.index, settings.learn, name)
    return Reloader(settings, snapshot, seen, metrics, place)


class _Server(uvicorn.Server):
    """uvicorn's server, which tells the supervisor when it is up and the service when it stops."""

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
        """Begin to accept, then say so."""
        await super().startup([])
        service = self._service
        service.metrics.add("mtaw_worker_starts_total")
        service.metrics.counters.own[PID] = os.getpid()
        self.acceptors = [self._acceptor(one) for one in sockets or []]
        self._supervisor.send(("ready", service.reloader.snapshot.version))
        asyncio.get_running_loop().add_reader(self._supervisor.fileno(), self._supervisor_gone)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 (the supervisor's)
        """Take no new connections, answer what is asked on those that are there, and end them; uvicorn's own waits for
        nobody who is about to ask, and answers 500 where the time is up."""
        loop, timeout = asyncio.get_running_loop(), self._service.settings.shutdown_timeout
        waiting, state = TimedProtocol.open_connections, self.server_state
        self._service.stopping = waiting.stopping = True
        for acceptor in self.acceptors:
            acceptor.close()
        for connection in list(state.connections):
            connection.shutdown()
        began = loop.time()
        ends_idle, ends_all = began + min(_NEXT_REQUEST, timeout / 2), began + timeout - min(_LAST_ANSWERS, timeout / 4)
        cancelled = False
        while (state.connections or state.tasks) and loop.time() < ends_all + _LAST_ANSWERS:
            await asyncio.sleep(_STOPPING_LOOK)
            now = loop.time()
            for connection in list(waiting.idle) if now >= ends_idle else ():
                connection.end()
            for connection in list(waiting.idle) if now >= ends_idle + _TO_CLOSE else ():
                connection.transport.close()
            if now >= ends_all and not cancelled:
                cancelled = True
                for task in list(state.tasks):
                    task.cancel()  # the middleware answers
        for connection in list(state.connections):
            connection.transport.abort()
        await self.lifespan.shutdown()

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        state = self.server_state

        def make_protocol() -> asyncio.Protocol:
            return TimedProtocol(config=self.config, server_state=state, app_state=self.lifespan.state)

        settings = self._service.settings
        most = most_connections(settings.limits.connections)
        if most < settings.limits.connections:
            log_event("fewer_connections", level="warning", most=most, asked=settings.limits.connections)
        room = TimedProtocol.open_connections.make_room
        return Acceptor(listener, make_protocol, state.connections, self._service.metrics.counters, most, room)

    def _supervisor_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._supervisor.fileno())
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """SIGTERM means stop; unlike uvicorn, the process then ends as one that succeeded."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: setattr(self, "should_exit", True))
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)


async def _tick(service: Service, server: _Server) -> None:
    """What happens by the clock: a sign of life, gauges, expired sessions and slow clients."""
    loop, own = asyncio.get_running_loop(), service.metrics.counters.own
    while True:
        own[HEARTBEAT] += 1
        service.gauge()
        now = loop.time()
        for acceptor in server.acceptors:
            acceptor.tell()
        for connection in list(server.server_state.connections):
            assert isinstance(connection, TimedProtocol)
            connection.expire(now)
        await asyncio.sleep(_TICK)
