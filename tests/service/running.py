"""A real service in processes of its own, and a plain HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_START = 60.0  # seconds


@dataclass(frozen=True)
class Reply:
    """An HTTP response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def version(self) -> str:
        """The bundle version that the response names."""
        return self.headers["x-bundle-version"]

    @property
    def code(self) -> str:
        """The error code of an error answer."""
        return self.json["error"]["code"]


@dataclass
class Running:
    """A service that is up. log: the events it has logged so far."""

    process: subprocess.Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def raw(self) -> socket.socket:
        """A socket connected to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20
    ) -> Reply:
        """One request on a connection of its own. body: bytes as they are, anything else as JSON."""
        with contextlib.closing(self.connect(timeout)) as connection:
            return ask_on(connection, method, path, body, headers)

    def metric(self, series: str) -> float:
        """The value of one series, 0 where there is none."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The logged events of that name."""
        return [line for line in list(self.log) if line["event"] == name]

    def assert_no_error(self) -> None:
        """Fail on an error in the log, and show it."""
        wrong = [line for line in list(self.log) if line["level"] == "error"]
        assert not wrong, wrong

    def workers(self) -> set[int]:
        """The process ids of the workers that are up."""
        started = {line["worker_pid"] for line in self.events("worker_started")}
        return started - {line["worker_pid"] for line in self.events("worker_died")}


def ask_on(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, headers: Any = None
) -> Reply:
    """One request on a kept connection."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, sent, headers or {})
    response = connection.getresponse()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def running(
    bundle: Path, *flags: str, env: dict[str, str] | None = None, python: Sequence[str] = ("-m", "mtaw_fast")
) -> Iterator[Running]:
    """Serve a bundle on a free port with `mtaw-fast serve`; if it still runs at the end, it must stop when told.

    python: what the interpreter is told to run as `mtaw-fast`.
    """
    command = [sys.executable, *python, "serve", str(bundle), "--port", "0", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    ) as process:
        service = Running(process)
        reader = threading.Thread(target=_collect, args=(service,))
        reader.start()
        try:
            eventually(lambda: service.events("ready") or process.poll() is not None, _START)
            assert process.poll() is None, service.log
            service.port = urlsplit(service.events("ready")[0]["url"]).port or 0
            yield service
            if process.poll() is None:
                process.terminate()
                assert process.wait(timeout=60) == 0
        finally:
            process.kill()
            reader.join()


def _collect(service: Running) -> None:
    assert service.process.stderr is not None
    for line in service.process.stderr:
        service.log.append(json.loads(line))


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until a condition holds, and return what it gave."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return value
