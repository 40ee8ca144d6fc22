"""A running `mtaw-fast serve` for a bench or a test, with the processor time of its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from mtaw_fast.errors import MtawError

_STOP_SECONDS = 60.0  # more than the service's --shutdown-timeout, after which it kills its workers
_POLL = 0.05  # seconds between reads of the log


class Service(AbstractContextManager["Service"]):
    """The service of a bundle on a free port of 127.0.0.1, ready once this is created.

    log: file for its log. options: more arguments of `mtaw-fast serve`. environment: variables in addition to those of
    this process. python: arguments of the interpreter that run `mtaw-fast`.
    Raises MtawError with the last line of the log if the service is not ready within `patience` seconds.
    """

    def __init__(
        self,
        bundle: Path,
        log: Path,
        workers: int = 1,
        options: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        python: Sequence[str] = ("-m", "mtaw_fast"),
        patience: float = 120.0,
    ) -> None:
        self.bundle, self.log, self.n_workers = bundle, log, workers
        command = [sys.executable, *python, "serve", str(bundle), "--port", "0", "--workers", str(workers), *options]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
            )
        self._events: list[dict[str, Any]] = []
        self._read = 0  # bytes of the log that are in `_events`
        self._root = psutil.Process(self.process.pid)
        self._cpu: dict[int, float] = {}  # by process, dead ones included
        try:
            self._await(lambda: bool(self.events("ready")), patience)
        except BaseException:
            self.stop()
            raise
        self.address = "127.0.0.1", int(urlsplit(self.events("ready")[0]["url"]).port or 0)

    def __enter__(self) -> Self:
        return self

    def wait_until_ready(self, patience: float) -> None:
        """Wait until all workers take requests."""
        self._await(lambda: len(self.worker_pids()) == self.n_workers, patience)

    def _await(self, condition: Callable[[], bool], patience: float) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            if not self.running:
                raise MtawError(f"the service ended with status {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise MtawError(f"the service was not ready in {patience:g} s: {self.last_words()}")
            time.sleep(_POLL)

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return its log lines of that event, or all, oldest first; a line that is not JSON counts as an error."""
        with self.log.open("rb") as stream:
            stream.seek(self._read)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._read += len(complete)
        self._events += map(_event, complete.splitlines())
        return [entry for entry in self._events if name in (None, entry["event"])]

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self.process.poll() is None

    def worker_pids(self) -> set[int]:
        """Return the processes that take requests."""
        started = {entry["worker_pid"] for entry in self.events("worker_started")}
        died = {entry["worker_pid"] for entry in self.events("worker_died")}
        # A process that has ended is gone before its line is in the log.
        return {pid for pid in started - died if psutil.pid_exists(pid)}

    def workers(self) -> list[psutil.Process]:
        """Return the processes that take requests, as psutil's."""
        return [psutil.Process(pid) for pid in sorted(self.worker_pids())]

    def cpu_seconds(self) -> float:
        """Return user and system seconds of all its processes; those of dead ones are from the last call before."""
        for process in self._processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._cpu[process.pid] = times.user + times.system
        return sum(self._cpu.values())

    def stop(self) -> int:
        """Stop it with SIGTERM, with SIGKILL after a while; return its exit status."""
        processes = self._processes() if self.running else []
        if self.running:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for process in processes[1:]:
            try:
                process.kill()  # the supervisor left it running
            except psutil.NoSuchProcess:
                continue
        return self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _processes(self) -> list[psutil.Process]:
        """Return the supervisor and all its descendants."""
        return [self._root, *self._root.children(recursive=True)]


def _event(line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError:
        return {"event": "not_json", "level": "error", "line": line.decode(errors="replace").rstrip()}
