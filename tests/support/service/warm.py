"""Services whose processes are forked from ones that have imported everything: most of a start is imports.

A nursery, one for each process of pytest, forks the supervisors; a fork server of `multiprocessing`, which all of them
share, forks the workers. As with `spawn`, a worker gets its arguments pickled and no open files but those among them.
Tests of the start itself and of memory use run `mtaw-fast serve` cold.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import Any, BinaryIO

from mtaw_fast.service import supervisor

_ROOT = Path(__file__).resolve().parents[3]
_NAME = "tests.support.service.warm"
COMPACTOR = "mtaw_fast.online.compaction.compactor"


class WarmProcess:
    """What tests use of a `subprocess.Popen`, for an `mtaw-fast` that is a grandchild of the nursery."""

    returncode: int | None

    def __init__(
        self, arguments: Sequence[str], log: BinaryIO, environment: Mapping[str, str], module: str = "mtaw_fast.cli"
    ) -> None:
        """Call `module`'s `main`; it prints to `log`."""
        self.args, self.returncode, self._waiting = list(arguments), None, threading.Lock()
        self._reports, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_nursery(), [b"start"], [theirs.fileno(), log.fileno()])
        request = {
            "module": module, "arguments": self.args, "environment": dict(environment), "folder": str(Path.cwd()),
        }  # fmt: skip
        self._reports.sendall(json.dumps(request).encode() + b"\n")
        self._lines = self._reports.makefile("rb", buffering=0)
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        with self._waiting:
            if self.returncode is None:
                if not select.select([self._reports], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
                self.returncode = int(self._lines.readline())
                self._lines.close()
                self._reports.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _nursery() -> socket.socket:
    """Start this process's nursery; it ends with this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-c", f"from {_NAME} import nurse; nurse({theirs.fileno()})"],
            pass_fds=[theirs.fileno()],
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    return ours


def start(
    arguments: Sequence[str], log: BinaryIO, environment: Mapping[str, str], module: str = "mtaw_fast.cli"
) -> Any:
    """Start a command; see `WarmProcess`. Where coverage is measured, which loses what such forks do, start it cold."""
    if "COVERAGE_PROCESS_START" not in os.environ:
        return WarmProcess(arguments, log, environment, module)
    command = [sys.executable, "-m", module.removesuffix(".cli"), *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def start_process(command: Sequence[str]) -> Any:
    """Start a program without input; one of a compactor warm. See `mtaw_fast.system.host.start_process`."""
    if list(command[:3]) != [sys.executable, "-m", COMPACTOR]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)
    with os.fdopen(os.dup(2), "wb") as printed:
        return start(command[3:], printed, os.environ, COMPACTOR)


class _Inherited:
    """What a worker has from its supervisor, besides its arguments, if that is its parent."""

    def __getstate__(self) -> Any:
        return dict(os.environ), resource.getrlimit(resource.RLIMIT_NOFILE), reduction.DupFd(2)

    def __setstate__(self, passed: Any) -> None:
        environment, files, log = passed
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        _become(environment, log.detach())


def _run(_: _Inherited, *arguments: Any) -> None:
    """Run a worker in a fork of the fork server."""
    supervisor._run(*arguments)


def _become(environment: Mapping[str, str], log: int) -> None:
    """Take an environment and write to a log."""
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)


def nurse(descriptor: int) -> None:
    """Start services until the other end of this socket closes."""
    for module in ("mtaw_fast.cli", COMPACTOR):
        importlib.import_module(module)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mtaw_fast.service.worker", "mtaw_fast.cli.serve", _NAME])
    server: Any = forkserver._forkserver
    server.ensure_running()
    server.ensure_running = lambda: None  # the services are not its parent, and could not ask
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that report
    channel = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 16, 2)
        if not message:
            return
        reports, log = descriptors
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    channel.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=reports) as reported, reported.makefile("rb", buffering=0) as lines:
        request = json.loads(lines.readline())
        service = os.fork()
        if service != 0:
            reported.sendall(b"%d\n" % service)
            os.close(log)
            _, status = os.waitpid(service, 0)
            with contextlib.suppress(OSError):
                reported.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
    _become(request["environment"], log)
    os.chdir(request["folder"])
    patched: Any = supervisor
    patched._SPAWN = context
    patched._run = functools.partial(_run, _Inherited())
    sys.exit(importlib.import_module(request["module"]).main(request["arguments"]))
