"""A real service in processes of its own, with a plain HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.serving.service_process import Service


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


class Client:
    """What tests ask of a service, whatever hosts it.

    address: where it listens. prefix: of all its paths.
    """

    address: tuple[str, int]
    prefix = ""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.address[1]

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        """A connection to it."""
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    def raw(self) -> socket.socket:
        """A socket connected to it."""
        return socket.create_connection(self.address, timeout=20)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20
    ) -> Reply:
        """One request on a connection of its own. body: bytes as they are, anything else as JSON."""
        with contextlib.closing(self.connect(timeout)) as connection:
            return ask_on(connection, method, self.prefix + path, body, headers)

    def metric(self, series: str) -> float:
        """The value of one series, 0 where there is none."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series)


class Running(Client, Service):
    """`mtaw-fast serve`, which is up."""

    def assert_no_error(self) -> None:
        """Fail on an error in the log, and show it."""
        wrong = [line for line in self.events() if line["level"] == "error"]
        assert not wrong, wrong

    def anonymous_bytes(self) -> int:
        """Resident memory of its workers that is their own (Linux's RssAnon): the mapped bundle is not in it."""
        return self._status_bytes("RssAnon")

    def peak_bytes(self) -> int:
        """The most memory that its workers ever had resident (Linux's VmHWM), the mapped bundle in it."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.worker_pids()]
        return sum(1024 * int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) for text in texts)


def ask_on(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, headers: Any = None
) -> Reply:
    """One request on a kept connection."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, sent, headers or {})
    response = connection.getresponse()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def running(bundle: Path, *flags: str, workers: int = 1, **more: Any) -> Iterator[Running]:
    """Serve a bundle; if it still runs at the end, it must stop when told. more: see `Service`."""
    with (
        tempfile.TemporaryDirectory(prefix="mtaw-fast-test-") as folder,
        Running(bundle, Path(folder) / "log", workers, flags, **more) as service,
    ):
        yield service
        if service.running:
            assert service.stop() == 0, service.last_words()


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until a condition holds, and return what it gave."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return value
