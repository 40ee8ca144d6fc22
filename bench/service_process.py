"""A running `mtaw-fast serve`, started and stopped by a bench or a test, with what its processes use."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from mtaw_fast.errors import MtawError

_ROOT = Path(__file__).resolve().parents[1]
_STOP_SECONDS = 20.0
_UP = re.compile(r"^mtaw_workers\{[^}]*\} (\S+)$", re.MULTILINE)


class Service(AbstractContextManager["Service"]):
    """The service of a bundle on a free port of 127.0.0.1; entered when it is ready.

    options: more arguments of `mtaw-fast serve`. log: the file that takes its log.
    Raises MtawError, with the end of the log, where it does not get ready within `patience` seconds.
    """

    def __init__(
        self, bundle: Path, log: Path, workers: int = 1, options: Sequence[str] = (), patience: float = 120.0
    ) -> None:
        self.bundle, self.log, self.n_workers = bundle, log, workers
        self.address = ("127.0.0.1", _free_port())
        command = [sys.executable, "-m", "mtaw_fast", "serve", str(bundle), "--host", self.address[0]]
        command += ["--port", str(self.address[1]), "--workers", str(workers), *options]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=_ROOT)
        self._root = psutil.Process(self._process.pid)
        self._cpu: dict[int, float] = {}  # by process, living and dead
        try:
            self.wait_until_ready(patience)
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self, patience: float) -> None:
        """Until all workers take requests."""
        deadline = time.monotonic() + patience
        while self._workers_up() < self.n_workers:
            if self._process.poll() is not None:
                raise MtawError(f"the service ended with status {self._process.returncode}: {self.last_words()}")
            if time.monotonic() > deadline:
                raise MtawError(f"the service was not ready in {patience:g} s: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET, on a connection of its own."""
        return self.ask("GET", path)

    def post(self, path: str, value: Any) -> tuple[int, bytes]:
        """Status and body of a POST of a JSON value, on a connection of its own."""
        return self.ask("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of any request, on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @property
    def running(self) -> bool:
        """Whether the supervising process lives."""
        return self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all that it started."""
        return [self._root, *self._root.children(recursive=True)]

    def workers(self) -> list[psutil.Process]:
        """The processes that answer: those that have the bundle mapped."""
        found = []
        for process in self.processes():
            try:
                if any(str(self.bundle.resolve()) in mapped.path for mapped in process.memory_maps()):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def cpu_seconds(self) -> float:
        """Processor time of all its processes, user and system; of those that died, as of the last call before."""
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            self._cpu[process.pid] = times.user + times.system
        return sum(self._cpu.values())

    def anonymous_bytes(self) -> int:
        """Resident memory of its workers that is their own (Linux's RssAnon): the mapped bundle is not in it."""
        return self._status_bytes("RssAnon")

    def peak_bytes(self) -> int:
        """The most memory that its workers ever had resident (Linux's VmHWM), the mapped bundle in it."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        total = 0
        for process in self.workers():
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
        return total

    def stop(self) -> int | None:
        """End it as an operator does (SIGTERM), by force after a while; its exit status."""
        left = self.processes() if self.running else []
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for process in left[1:]:
            try:
                process.kill()  # what the supervisor left behind
            except psutil.NoSuchProcess:
                continue
        return self._process.returncode

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _workers_up(self) -> int:
        """How many workers take requests, as they say themselves."""
        try:
            status, metrics = self.get("/metrics")
        except (OSError, http.client.HTTPException):
            return 0
        return sum(int(float(count)) for count in _UP.findall(metrics.decode())) if status == 200 else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
