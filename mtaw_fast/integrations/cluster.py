"""Connect to a Ray cluster, or start Ray on this host, for the time of a task; and run tasks on it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mtaw_fast.errors import MtawError, UsageError, require

HERE = "local"
_PATIENCE = 5.0  # seconds to connect to the given address
_RETRIES = 3  # of a task whose worker dies
_END = 30.0  # seconds for tasks to end after one of them has failed
_STARTS = 3  # attempts to start Ray on this host, each of which Ray gives up after half a minute
# Timeouts of Ray's processes for each other, as Ray's own settings: long enough for a busy host.
_WAITS = {
    "RAY_gcs_server_request_timeout_seconds": "180",
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_health_check_failure_threshold": "10",
}
_STORE = 512 << 20  # bytes of Ray's object store on this host; blocks leave it quickly


class ClusterError(MtawError):
    """A Ray cluster cannot be reached or was lost."""


@contextlib.contextmanager
def cluster(address: str = HERE, cpus: int | None = None) -> Iterator[Any]:
    """Connect to Ray, or start it on this host, yield the module `ray`, and disconnect or stop it at the end.

    address: 'local' starts Ray on this host for the time of the `with`; else HOST:PORT, 'auto' or ray://HOST:PORT. If
    this process is already connected to a Ray, that connection is used and stays. cpus: processors of a Ray that is
    started here; by default those of the host.

    Raises MissingPackageError without the extra `ray`, UsageError on a malformed address, and ClusterError if no
    cluster answers there, or it is lost meanwhile; in one line, however long Ray's own message is.
    """
    ray = find_ray(address)
    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            if address == HERE:
                settings |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE}
                settings |= {"_node_ip_address": "127.0.0.1"}
            stack.enter_context(_connected(ray, address, settings))
        try:
            with _shorter_logs():
                yield ray
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MtawError):
                raise type(error.cause)(str(error.cause)) from None
            raise ClusterError(
                f"work on Ray failed ({_lines(error)[-1][:200]}); every host needs this release with its extra "
                "'ray', and the same paths"
            ) from None
        except ray.exceptions.RayError as error:
            raise ClusterError(_lost(address, error)) from None


@contextlib.contextmanager
def _connected(ray: Any, address: str, settings: dict[str, Any]) -> Iterator[None]:
    """Connect, and shut down at the end. Starting Ray on this host is retried, because its processes can miss their
    timeouts for each other on a busy host. Raises ClusterError after the last attempt."""
    for tries_left in reversed(range(_STARTS if address == HERE else 1)):
        with contextlib.ExitStack() as attempt:
            if address == HERE:
                folder = tempfile.TemporaryDirectory(prefix="mtaw-ray-", ignore_cleanup_errors=True)
                settings = {**settings, "_temp_dir": attempt.enter_context(folder)}
                attempt.callback(_end_processes, settings["_temp_dir"])
            attempt.callback(ray.shutdown)
            try:
                with _muted():
                    ray.init(**settings)
            except Exception as error:  # Ray also raises Exception itself
                if tries_left == 0:
                    raise ClusterError(_lost(address, error)) from None
                continue
            yield
            return


def _end_processes(folder: str) -> None:
    """Kill the processes of a Ray that this process started with `folder`: a failed start leaves them running."""
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for process in map(int, children.read_text().split()):
                with contextlib.suppress(OSError):
                    if folder in Path(f"/proc/{process}/cmdline").read_text(errors="replace"):
                        os.kill(process, signal.SIGKILL)


def _reach(address: str) -> None:
    """Try a plain connection first: Ray would wait half a minute, and its message is pages long."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--ray {address!r} is not an address; write HOST:PORT, ray://HOST:PORT, auto, or nothing for this host"
        )
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError as error:
        raise ClusterError(_lost(address, error)) from None


class Tasks:
    """Run functions as parallel Ray tasks. ray: what `cluster` yields."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def run(self, function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
        """Return the results of `function(*call)`, in order.

        A task whose worker dies is run again, so it must write the same. Raises the error of the first task that fails,
        after all others have stopped writing.
        """
        task = self._ray.remote(max_retries=_RETRIES)(function)
        running = [task.remote(*call) for call in calls]
        try:
            return self._ray.get(running)
        except BaseException:
            self._end(running)
            raise

    def _end(self, running: list[Any]) -> None:
        # The caller removes the written files, so no task may write any more.
        for task in running:
            self._ray.cancel(task, force=True)
        self._ray.wait(running, num_returns=len(running), timeout=_END)


def find_ray(address: str = HERE) -> ModuleType:
    """Check that the address answers, then import Ray as `cluster` uses it. Call it before any other work.

    Ray reads its environment on import, so this sets the variables before. Raises as `cluster` does.
    """
    if address not in (HERE, "auto"):
        _reach(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == HERE and "ray" not in sys.modules:
        for name, value in _WAITS.items():
            os.environ.setdefault(name, value)
    if address == HERE and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        # Ray's processes listen on every interface, whatever address they are given, so require a token.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return require("ray", "ray")


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Discard standard error, to which Ray's C++ side writes its log level on start; its errors are also raised."""
    sys.stderr.flush()
    descriptor = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        yield
    finally:
        os.dup2(descriptor, 2)
        os.close(descriptor)


@contextlib.contextmanager
def _shorter_logs() -> Iterator[None]:
    """Silence Ray Data, which logs every plan and execution on standard error; failures are also raised."""
    require("ray.data", "ray")  # which sets its loggers up
    log = logging.getLogger("ray.data")
    old_level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(old_level)


def _lost(address: str, error: Exception) -> str:
    reason = _lines(error)[0][:200]
    if address == HERE:
        return f"Ray on this host failed ({reason}); run the command again, or without --ray"
    return f"the Ray cluster at {address} does not answer ({reason}); check the address and 'ray status' there"


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


NAMESPACE = "mtaw_fast"  # of all named actors in a cluster

_OURS = re.compile(r"mtaw_fast\.\S*Error: (.+)")  # an error of this package in a traceback of Ray
_LONGEST = 400  # characters of a message


def connected() -> Any:
    """Return the module `ray`. Raises MissingPackageError without the extra `ray`, UsageError if not connected."""
    ray = require("ray", "ray")
    if not ray.is_initialized():
        raise UsageError("this process is not connected to Ray; call ray.init first")
    return ray


def one_line(error: BaseException) -> str:
    """Return an error of Ray in one line: the error of this package in it, if there is one, else the last line."""
    text = str(error)
    matches = _OURS.findall(text)
    lines = [line.strip() for line in (matches or text.splitlines()) if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:_LONGEST]
