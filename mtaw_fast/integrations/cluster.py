"""A Ray cluster for as long as a piece of work takes: one on this machine, or one that is named."""

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
_PATIENCE = 5.0  # seconds for a connection to the named address
_RETRIES = 3  # of a task whose worker dies
_END = 30.0  # seconds that tasks get to be gone after one of them has failed
_STARTS = 3  # of a Ray on this machine, each of which Ray gives up after half a minute
# What Ray's processes wait for one another, as Ray's own settings: for a machine that has other work to do.
_WAITS = {
    "RAY_gcs_server_request_timeout_seconds": "180",
    "RAY_worker_register_timeout_seconds": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_health_check_failure_threshold": "10",
}
_STORE = 512 << 20  # bytes of Ray's object store on this machine: blocks are passed on at once


class ClusterError(MtawError):
    """A Ray cluster could not be reached, or was lost."""


@contextlib.contextmanager
def cluster(address: str = HERE, cpus: int | None = None) -> Iterator[Any]:
    """Connect to Ray, or start one here, and leave it at the end.

    Parameters
    ----------
    address : str
        'local' starts a Ray on this machine for the time being; else HOST:PORT, 'auto' or ray://HOST:PORT. Where this
        process is connected to a Ray already, that one is used, and stays.
    cpus : int, optional
        Processors that a Ray started here counts with; those of the machine by default.

    Yields
    ------
    module
        `ray`, connected.

    Raises
    ------
    MissingPackageError
        Without the extra `ray`.
    UsageError
        On an address that is none.
    ClusterError
        Where no cluster answers there, or it is lost meanwhile: one line, whatever Ray has to say.
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
                f"work on Ray failed ({_lines(error)[-1][:200]}); every machine needs this release with its extra "
                "'ray', and the same paths"
            ) from None
        except ray.exceptions.RayError as error:
            raise ClusterError(_lost(address, error)) from None


@contextlib.contextmanager
def _connected(ray: Any, address: str, settings: dict[str, Any]) -> Iterator[None]:
    """Connect. A Ray of our own is started again where its start fails: its processes get fixed times in which to
    answer one another, which they can miss on a busy machine. Raises ClusterError where no try is left."""
    for left in reversed(range(_STARTS if address == HERE else 1)):
        with contextlib.ExitStack() as attempt:
            if address == HERE:
                folder = tempfile.TemporaryDirectory(prefix="mtaw-ray-", ignore_cleanup_errors=True)
                settings = {**settings, "_temp_dir": attempt.enter_context(folder)}
                attempt.callback(_end_processes, settings["_temp_dir"])
            attempt.callback(ray.shutdown)
            try:
                with _muted():
                    ray.init(**settings)
            except Exception as error:  # Ray raises this very class, too
                if left == 0:
                    raise ClusterError(_lost(address, error)) from None
                continue
            yield
            return


def _end_processes(folder: str) -> None:
    """End those of Ray's processes that were started by this one with `folder`: a start that fails leaves them."""
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for process in map(int, children.read_text().split()):
                with contextlib.suppress(OSError):
                    if folder in Path(f"/proc/{process}/cmdline").read_text(errors="replace"):
                        os.kill(process, signal.SIGKILL)


def _reach(address: str) -> None:
    """Ask for a connection first: Ray itself would wait for half a minute, and tell the reason in pages."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise UsageError(
            f"--ray {address!r} is not an address; write HOST:PORT, ray://HOST:PORT, auto, or nothing for here"
        )
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError as error:
        raise ClusterError(_lost(address, error)) from None


class Tasks:
    """Functions run as Ray tasks, many at once. ray: what `cluster` yields."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def run(self, function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
        """`function(*call)` for every call, in that order. A task whose worker dies is run again, so it must write the
        same again; raises what the first one that fails raised, once no other one writes any more."""
        task = self._ray.remote(max_retries=_RETRIES)(function)
        running = [task.remote(*call) for call in calls]
        try:
            return self._ray.get(running)
        except BaseException:
            self._end(running)
            raise

    def _end(self, running: list[Any]) -> None:
        # What is being written is the caller's to clear away, which must find all of it.
        for one in running:
            self._ray.cancel(one, force=True)
        self._ray.wait(running, num_returns=len(running), timeout=_END)

    def shared(self, value: Any) -> Any:
        """`value` put where all tasks find it, to be passed to `each`."""
        return self._ray.put(value)


def find_ray(address: str = HERE) -> ModuleType:
    """Load Ray as `cluster` will use it, once something answers at the address: to be asked before any work.

    Ray reads its environment as it is loaded, so what is set here must be set before. Raises as `cluster` does.
    """
    if address not in (HERE, "auto"):
        _reach(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == HERE and "ray" not in sys.modules:
        for name, value in _WAITS.items():
            os.environ.setdefault(name, value)
    if address == HERE and "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        # Ray's processes listen on every interface, whatever address they are given: let no one else's word count.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return require("ray", "ray")


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Ray's C++ side writes its log level to standard error as it starts; what goes wrong there is raised as well."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _shorter_logs() -> Iterator[None]:
    """Ray Data tells on standard error of every plan and execution; failures are raised too."""
    require("ray.data", "ray")  # which sets its loggers up
    log = logging.getLogger("ray.data")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _lost(address: str, error: Exception) -> str:
    reason = _lines(error)[0][:200]
    if address == HERE:
        return f"Ray on this machine failed ({reason}); run the command again, or without --ray"
    return f"the Ray cluster at {address} does not answer ({reason}); check the address and 'ray status' there"


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


NAMESPACE = "mtaw_fast"  # of all that is named in a cluster

_OURS = re.compile(r"mtaw_fast\.\S*Error: (.+)")  # an error of our own in a traceback that Ray hands on
_LONGEST = 400  # characters


def connected() -> Any:
    """The module `ray`. Raises MissingPackageError without the extra `ray`, UsageError without a connection."""
    ray = require("ray", "ray")
    if not ray.is_initialized():
        raise UsageError("this process is connected to no Ray; call ray.init first")
    return ray


def one_line(error: BaseException) -> str:
    """What went wrong, out of the pages in which Ray tells it: our own error where there is one, else the last line."""
    text = str(error)
    ours = _OURS.findall(text)
    lines = [line.strip() for line in (ours or text.splitlines()) if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:_LONGEST]
