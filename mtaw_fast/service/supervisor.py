"""The parent process: opens the socket, starts the workers, starts others in the place of those that die."""

from __future__ import annotations

import contextlib
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

from mtaw_fast.errors import MtawError
from mtaw_fast.service.http.file_limit import raise_file_limit
from mtaw_fast.service.http.graceful_drain import (
    HANDSHAKE,
    GracefulDrain,
    begin_connections,
    begin_no_connections,
    refusal,
)
from mtaw_fast.service.observability.counters import HEARTBEAT
from mtaw_fast.service.observability.metrics import GAUGES, Metrics
from mtaw_fast.service.observability.service_log import configure_logging, flush_log, log_event
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.shared_memory import SharedMemory

_BACKLOG = 2048
_LOOK = 1.0  # seconds between looks at the workers' signs of life
_SILENT_LOOKS = 30  # a worker that gives none for so many is killed
_SETTLED = 10.0  # seconds that a worker must have been up for its death to be no failure
_SLOWEST_RESTART = 5.0  # seconds, where one dies again and again before it is settled
_MOST_FAILURES = 10  # that are counted: any more make no restart slower
_MARGIN = 5.0  # seconds past the workers' own timeout before they are killed
_STOPPING_LOOK = 0.02  # seconds between looks at whether the workers are gone
_NO_VERSION = "0" * 16  # of a service that no worker was ready for
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class _Worker:
    """A worker process. failures: how often in a row its predecessors died before they were settled. up_since: on
    time.monotonic's clock, None until it takes requests."""

    row: int
    process: SpawnProcess
    messages: connection.Connection
    failures: int = 0
    up_since: float | None = None
    heartbeat: int = -1
    silent: int = 0


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then shut down gracefully.

    Raises MtawError where the address is taken, the bundle cannot be loaded, or a worker dies before the service is up.
    """
    configure_logging()
    raise_file_limit()
    try:
        with _listening(settings) as listener, contextlib.closing(Metrics.make(settings.workers)) as counters:
            _Supervisor(settings, listener, counters).run()
    finally:
        flush_log()  # before the error that ends it all is printed


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be a host's name at all
        reason = getattr(error, "strerror", None) or "no host has such a name"
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
    def __init__(self, settings: Settings, listener: socket.socket, counters: SharedMemory) -> None:
        self._settings, self._listener, self._shared = settings, listener, counters
        self._metrics = Metrics.open(counters, settings.workers)
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, tuple[float, int]] = {}  # row: when to start a worker there, and its failures so far
        self._announced = False

    def run(self) -> None:
        """Everything, from the first start to the last stop."""
        wakeup, signals = self._catch_signals()
        try:
            for row in range(self._settings.workers):
                self._start(row, 0)
            last_look = time.monotonic()
            while True:
                waited_for = [
                    wakeup,
                    *(end for one in self._workers.values() for end in (one.messages, one.process.sentinel)),
                ]
                connection.wait(waited_for, timeout=self._until_next(last_look))
                with contextlib.suppress(BlockingIOError):
                    wakeup.recv(4096)
                if signals & {signal.SIGTERM, signal.SIGINT}:
                    break
                if signal.SIGHUP in signals:
                    signals.discard(signal.SIGHUP)
                    self._metrics.counters.ask_to_look()
                self._hear()
                self._bury()
                for row, (when, failures) in list(self._due.items()):
                    if when <= time.monotonic():
                        del self._due[row]
                        self._start(row, failures)
                if time.monotonic() - last_look >= _LOOK:
                    last_look = time.monotonic()
                    self._kill_silent()
        finally:
            self._stop()

    def _catch_signals(self) -> tuple[socket.socket, set[int]]:
        """(a socket that becomes readable with every signal, the signals that came)."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._wakeup_ends = ours, theirs
        came: set[int] = set()
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(one, lambda number, _: came.add(number))
        return ours, came

    def _until_next(self, last_look: float) -> float:
        times = [last_look + _LOOK, *(when for when, _ in self._due.values())]
        return max(0.0, min(times) - time.monotonic())

    def _start(self, row: int, failures: int) -> None:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_run, args=(self._settings, self._listener, self._shared, row, theirs), name=f"worker-{row}"
        )
        process.start()
        theirs.close()
        self._workers[row] = _Worker(row, process, ours, failures)

    def _hear(self) -> None:
        """Take in what starting workers say."""
        for worker in self._workers.values():
            with contextlib.suppress(EOFError, OSError):  # it died: `_bury` sees to it
                while worker.messages.poll():
                    said, what = worker.messages.recv()
                    if said == "failed":
                        log_event("worker_failed", level="error", worker=worker.row, reason=what)
                        if not self._announced:
                            raise MtawError(what)
                    else:
                        self._is_up(worker, what)

    def _is_up(self, worker: _Worker, version: str) -> None:
        worker.up_since = time.monotonic()
        log_event("worker_started", worker=worker.row, worker_pid=worker.process.pid, version=version)
        if not self._announced and all(one.up_since is not None for one in self._workers.values()):
            self._announced = True
            host, port = self._listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            log_event("ready", url=f"http://{shown}:{port}", workers=len(self._workers), version=version)

    def _bury(self) -> None:
        """Note which workers died, and when to start others."""
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
                raise MtawError(f"a worker died at its start (status {status}); see the log above")
            now = time.monotonic()
            settled = worker.up_since is not None and now - worker.up_since >= _SETTLED
            failures = 0 if settled else min(worker.failures + 1, _MOST_FAILURES)
            wait = min(_SLOWEST_RESTART, 0.1 * 2**failures) if failures else 0.0
            self._due[row] = now + wait, failures

    def _kill_silent(self) -> None:
        """Kill workers that have given no sign of life for a while.

        Counted in our own looks, so that a machine that was asleep wakes up with all of its workers.
        """
        for worker in self._workers.values():
            if worker.up_since is None:
                continue
            heartbeat = self._metrics.counters.row(worker.row)[HEARTBEAT]
            worker.silent = worker.silent + 1 if heartbeat == worker.heartbeat else 0
            worker.heartbeat = heartbeat
            if worker.silent >= _SILENT_LOOKS:
                log_event("worker_silent", level="error", worker=worker.row, worker_pid=worker.process.pid)
                worker.process.kill()

    def _stop(self) -> None:
        """Let the workers end what they are at, and see that they are gone; answer who comes meanwhile."""
        log_event("stopping")
        versions = self._metrics.counters.live_versions()
        refuser = GracefulDrain(self._listener, refusal(versions[0] if versions else _NO_VERSION))
        begin_no_connections(self._listener)
        none_since: float | None = time.monotonic()
        for worker in self._workers.values():
            worker.process.terminate()
        until = time.monotonic() + self._settings.shutdown_timeout + _MARGIN
        while any(worker.process.is_alive() for worker in self._workers.values()):
            refuser.turn(_STOPPING_LOOK)
            if none_since is not None and time.monotonic() > none_since + HANDSHAKE:
                begin_connections(self._listener)  # it takes longer: nobody is to wait for it
                none_since = None
            if time.monotonic() > until:
                self._kill_all()
        for worker in self._workers.values():
            worker.process.join()
            worker.messages.close()
        if none_since is None:
            begin_no_connections(self._listener)
            none_since = time.monotonic()
        while time.monotonic() < none_since + HANDSHAKE:
            refuser.turn(none_since + HANDSHAKE - time.monotonic())
        refuser.finish()
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
    """A worker's main function: imports what serves in the worker alone, so that the parent stays small."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from mtaw_fast.service.worker import run_worker

    run_worker(*arguments)
