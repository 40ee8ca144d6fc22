"""The parent process: it opens the socket, starts the workers, and replaces those that die."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.service.http.graceful_drain import (
    HANDSHAKE,
    NO_WORKER,
    GracefulDrain,
    allow_new_connections,
    block_new_connections,
    refusal,
)
from mtaw_fast.service.observability.counters import HEARTBEAT
from mtaw_fast.service.observability.metrics import GAUGES, Metrics
from mtaw_fast.service.observability.service_log import configure_logging, flush_log, log_event
from mtaw_fast.service.origins import Origins
from mtaw_fast.service.ranking_ids import load_key
from mtaw_fast.service.resources import SharedMemory, raise_file_limit
from mtaw_fast.service.settings import Settings

_BACKLOG = 2048
_CHECK_INTERVAL = 1.0  # seconds between checks of the workers' heartbeats
_SILENT_CHECKS = 30  # checks without a new heartbeat until a worker is killed
_SETTLED = 10.0  # seconds after which a worker's death does not slow down its replacement
_SLOWEST_RESTART = 5.0  # seconds between restarts of a worker that dies again and again
_MAX_FAILURES = 10  # failures that are counted
_MARGIN = 5.0  # seconds after the workers' own shutdown timeout until they are killed
_STOP_INTERVAL = 0.02  # seconds between checks whether the workers have ended
_NO_VERSION = "0" * 16  # if no worker was ready
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class _Worker:
    """A worker process.

    row: its row of the counters. failures: predecessors in a row that died within `_SETTLED` seconds. up_since: on
    time.monotonic's clock; None until it takes requests. silent: checks in a row without a new heartbeat.
    """

    row: int
    process: SpawnProcess
    messages: connection.Connection
    failures: int = 0
    up_since: float | None = None
    heartbeat: int = -1
    silent: int = 0


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then shut down gracefully.

    Raises MtawError if the address is in use, the bundle cannot be loaded, or a worker dies before all are ready;
    UsageError if the bundle or the host does not have what an option names.
    """
    configure_logging()
    raise_file_limit()
    settings = dataclasses.replace(settings, ranking_key=load_key(settings))
    try:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(_listening(settings))
            counters = stack.enter_context(contextlib.closing(Metrics.make(settings.workers)))
            origins = None
            if settings.takes_open_events:
                origins = stack.enter_context(contextlib.closing(Origins.make(settings.workers)))
            _Supervisor(settings, listener, counters, origins).run()
    finally:
        flush_log()  # before the caller prints an error


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a possible host name
        reason = getattr(error, "strerror", None) or "there is no host of that name"
        raise MtawError(f"cannot listen on {settings.host}: {reason}; choose another --host") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise MtawError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose another --port"
            ) from None
        yield listener


class _Supervisor:
    def __init__(
        self, settings: Settings, listener: socket.socket, counters: SharedMemory, origins: SharedMemory | None
    ) -> None:
        self._settings, self._listener, self._shared = settings, listener, (counters, origins)
        self._metrics = Metrics.open(counters, settings.workers)
        self._workers: dict[int, _Worker] = {}
        self._restarts: dict[int, tuple[float, int]] = {}  # by row: when to start a worker, and its failures so far
        self._announced = False
        self._version = _NO_VERSION  # of the worker that was ready last
        self._unable: set[int] = set()  # rows whose last worker took no request
        self._drain: GracefulDrain | None = None  # while no worker can take requests

    def run(self) -> None:
        """Start the workers, watch them until a signal comes, and stop them."""
        wakeup, signals = self._catch_signals()
        try:
            for row in range(self._settings.workers):
                self._start(row, 0)
            last_check = time.monotonic()
            while True:
                waited_for = [
                    wakeup,
                    *(end for worker in self._workers.values() for end in (worker.messages, worker.process.sentinel)),
                ]
                connection.wait(waited_for, timeout=self._until_next(last_check))
                with contextlib.suppress(BlockingIOError):
                    wakeup.recv(4096)
                if signals & {signal.SIGTERM, signal.SIGINT}:
                    break
                if signal.SIGHUP in signals:
                    signals.discard(signal.SIGHUP)
                    self._metrics.counters.request_reload()
                self._read_messages()
                self._reap()
                self._restart()
                self._stand_in()
                if time.monotonic() - last_check >= _CHECK_INTERVAL:
                    last_check = time.monotonic()
                    self._kill_silent()
        finally:
            self._stop()

    def _catch_signals(self) -> tuple[socket.socket, set[int]]:
        """Return a socket that becomes readable with every signal, and the set of signals received."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._wakeup_ends = ours, theirs
        received: set[int] = set()
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda number, _: received.add(number))
        return ours, received

    def _until_next(self, last_check: float) -> float:
        if self._drain is not None:
            return _STOP_INTERVAL
        times = [last_check + _CHECK_INTERVAL, *(due for due, _ in self._restarts.values())]
        return max(0.0, min(times) - time.monotonic())

    def _start(self, row: int, failures: int) -> None:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_run, args=(self._settings, self._listener, *self._shared, row, theirs), name=f"worker-{row}"
        )
        process.start()
        theirs.close()
        self._workers[row] = _Worker(row, process, ours, failures)

    def _restart(self) -> None:
        """Start the replacements whose time has come."""
        for row, (due, failures) in list(self._restarts.items()):
            if due > time.monotonic():
                continue
            del self._restarts[row]
            try:
                self._start(row, failures)
            except OSError as error:  # no memory or no process for one more: the other workers go on
                log_event("worker_failed", level="error", worker=row, reason=error.strerror)
                self._unable.add(row)
                self._schedule(row, failures + 1)

    def _stand_in(self) -> None:
        """Answer 503 while no worker takes requests and one could not start: clients would wait until one can."""
        if self._unable and all(worker.up_since is None for worker in self._workers.values()):
            if self._drain is None:
                self._drain = GracefulDrain(self._listener, refusal(self._version, NO_WORKER))
            self._drain.turn(0.0)
        else:
            self._end_stand_in()

    def _end_stand_in(self) -> None:
        if self._drain is not None:
            self._drain.finish()
            self._drain = None

    def _schedule(self, row: int, failures: int) -> None:
        """Note when to start a worker. failures: of its predecessors in a row."""
        failures = min(failures, _MAX_FAILURES)
        wait = min(_SLOWEST_RESTART, 0.1 * 2**failures) if failures else 0.0
        self._restarts[row] = time.monotonic() + wait, failures

    def _read_messages(self) -> None:
        """Read the messages of starting workers."""
        for worker in self._workers.values():
            with contextlib.suppress(EOFError, OSError):  # it died: `_reap` handles that
                while worker.messages.poll():
                    kind, text = worker.messages.recv()
                    if kind in ("failed", "misused"):
                        if not self._announced:  # the command ends with this error, and says it then
                            raise (UsageError if kind == "misused" else MtawError)(text)
                        log_event("worker_failed", level="error", worker=worker.row, reason=text)
                    else:
                        self._is_up(worker, text)

    def _is_up(self, worker: _Worker, version: str) -> None:
        worker.up_since, self._version = time.monotonic(), version
        self._unable.discard(worker.row)
        log_event("worker_started", worker=worker.row, worker_pid=worker.process.pid, version=version)
        if not self._announced and all(peer.up_since is not None for peer in self._workers.values()):
            self._announced = True
            host, port = self._listener.getsockname()[:2]
            url_host = f"[{host}]" if ":" in host else host
            log_event("ready", url=f"http://{url_host}:{port}", workers=len(self._workers), version=version)

    def _reap(self) -> None:
        """Remove workers that died, and schedule their replacements."""
        for row, worker in list(self._workers.items()):
            if worker.process.is_alive():
                continue
            worker.process.join()
            worker.messages.close()
            del self._workers[row]
            self._metrics.counters.leave(row, GAUGES)
            status = worker.process.exitcode
            log_event("worker_died", level="error", worker=row, worker_pid=worker.process.pid, status=status)
            if not self._announced:
                raise MtawError(f"a worker died while it started (status {status}); see the log above")
            if worker.up_since is None:
                self._unable.add(row)
            settled = worker.up_since is not None and time.monotonic() - worker.up_since >= _SETTLED
            self._schedule(row, 0 if settled else worker.failures + 1)

    def _kill_silent(self) -> None:
        """Kill workers without a heartbeat for a while.

        The supervisor counts its own checks, so that a machine that was suspended wakes up with all its workers.
        """
        for worker in self._workers.values():
            if worker.up_since is None:
                continue
            heartbeat = self._metrics.counters.row(worker.row)[HEARTBEAT]
            worker.silent = worker.silent + 1 if heartbeat == worker.heartbeat else 0
            worker.heartbeat = heartbeat
            if worker.silent >= _SILENT_CHECKS:
                log_event("worker_silent", level="error", worker=worker.row, worker_pid=worker.process.pid)
                worker.process.kill()

    def _stop(self) -> None:
        """Let the workers finish their requests, and answer new connections with a 503 until they have ended."""
        log_event("stopping")
        self._end_stand_in()
        versions = self._metrics.counters.live_versions()
        drain = GracefulDrain(self._listener, refusal(versions[0] if versions else self._version))
        block_new_connections(self._listener)
        blocked_since: float | None = time.monotonic()
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.shutdown_timeout + _MARGIN
        while any(worker.process.is_alive() for worker in self._workers.values()):
            drain.turn(_STOP_INTERVAL)
            if blocked_since is not None and time.monotonic() > blocked_since + HANDSHAKE:
                allow_new_connections(self._listener)  # it takes longer than a handshake: do not keep clients waiting
                blocked_since = None
            if time.monotonic() > deadline:
                self._kill_all()
        for worker in self._workers.values():
            worker.process.join()
            worker.messages.close()
        if blocked_since is None:
            block_new_connections(self._listener)
            blocked_since = time.monotonic()
        while time.monotonic() < blocked_since + HANDSHAKE:
            drain.turn(blocked_since + HANDSHAKE - time.monotonic())
        drain.finish()
        signal.set_wakeup_fd(-1)
        for end in self._wakeup_ends:
            end.close()
        log_event("stopped")

    def _kill_all(self) -> None:
        for worker in self._workers.values():
            if worker.process.is_alive():
                log_event("worker_killed", level="error", worker=worker.row, worker_pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()


def _run(*arguments: Any) -> None:
    """Run a worker. It imports the server here, so that the parent process stays small."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mtaw_fast.service.worker import run_worker

    run_worker(*arguments)
