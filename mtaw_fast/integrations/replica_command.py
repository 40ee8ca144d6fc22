"""`mtaw-fast serve --ray`: deploy replicas, and on a Ray on this host, reload and serve until a signal."""

from __future__ import annotations

import _thread
import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

from mtaw_fast.errors import MtawError, require
from mtaw_fast.integrations.cluster import HERE, cluster, find_ray
from mtaw_fast.integrations.ray_serve import Scaling, StoppedError, deploy, undeploy
from mtaw_fast.service.observability.service_log import configure_logging, flush_log, log_event
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import signature

_SPARE_CPUS = 2  # processors of a Ray on this host beyond those of the replicas: a roll starts one more replica


def serve_replicas(settings: Settings, scaling: Scaling, address: str) -> None:
    """Deploy the bundle. On a named cluster, return then; on a Ray on this host, serve until SIGTERM or SIGINT.

    While serving, the bundle is checked every `reload_interval` seconds and at SIGHUP, and the replicas roll to a new
    one. A bundle that cannot be served is logged, and the old one stays. A stop signal during the first deployment is
    not an error on this host. Raises as `cluster` and `deploy`.
    """
    find_ray(address)
    require("ray.serve", "ray")  # sets up its logger on import
    configure_logging()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    logging.captureWarnings(True)  # Serve warns about its own settings, and the log must be JSON lines only
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    try:
        cpus = None if address != HERE else _SPARE_CPUS + round(scaling.most * scaling.cpus)
        with cluster(address, cpus), _signals() as (stop, look):
            seen = signature(settings.bundle)
            try:
                version = deploy(settings, scaling, stop=stop)
            except StoppedError:
                if address != HERE:  # on a named cluster, the caller must know that nothing serves
                    raise
                log_event("stopped")
                return
            log_event("ready", url=f"http://{settings.host}:{settings.port}", replicas=scaling.least, version=version)
            if address == HERE:
                _watch(settings, scaling, seen, stop, look)
                undeploy()
                log_event("stopped")
    finally:
        flush_log()


def _watch(
    settings: Settings, scaling: Scaling, last_signature: Any, stop: threading.Event, look: threading.Event
) -> None:
    while not stop.wait(settings.reload_interval):
        now = signature(settings.bundle)
        if now == last_signature and not look.is_set():
            continue
        last_signature = now
        look.clear()
        try:
            log_event("rolled", version=deploy(settings, scaling, stop=stop))
        except StoppedError:
            log_event("roll_stopped")
        except MtawError as error:
            log_event("roll_refused", level="error", reason=str(error))


@contextlib.contextmanager
def _signals() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Yield two events: one set by SIGTERM or SIGINT, one set by SIGHUP."""
    stop, look = threading.Event(), threading.Event()
    events = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: look}

    def caught(number: int, _: Any) -> None:
        # In a thread: this one may be about to wait for the event, and then holds its lock.
        _thread.start_new_thread(events[signal.Signals(number)].set, ())

    handlers = {signum: signal.signal(signum, caught) for signum in events}
    try:
        yield stop, look
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
