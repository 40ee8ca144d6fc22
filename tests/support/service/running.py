"""A service in processes of its own, clients of it that may send without a pause, and checks of its replies."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.serving.service_process import Service
from mtaw_fast.service.ranking_ids import load_key, new_id, use_key
from mtaw_fast.service.settings import Settings

ADMIN_TOKEN = "s3cret-of-the-tests"
WITH_TOKEN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
EVENTS_TOKEN = "events-of-the-tests"
TRUSTED = {"Authorization": f"Bearer {EVENTS_TOKEN}"}
OPEN = {"MTAW_EVENTS_TOKEN": ""}  # environment of a service that takes open events
FRESH = ("--metrics-interval", "0.001")
HEAD = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 23\r\n\r\n"
BODY = b'{"session": ["sku-11"]}'


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
        """The code of an error response."""
        return self.json["error"]["code"]


class Client:
    """A client of a service. address: where the service listens. prefix: of all its paths."""

    address: tuple[str, int]
    prefix = ""

    @property
    def port(self) -> int:
        """The port of the service."""
        return self.address[1]

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        """Return a connection to the service."""
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    def raw(self) -> socket.socket:
        """Return a socket connected to the service."""
        return socket.create_connection(self.address, timeout=20)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20
    ) -> Reply:
        """Send a request on a new connection. body: bytes are sent as they are, anything else as JSON."""
        with contextlib.closing(self.connect(timeout)) as connection:
            return ask_on(connection, method, self.prefix + path, body, headers)

    def metric(self, series: str) -> float:
        """Return the value of one series, 0 if there is none."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == series)


class Running(Client, Service):
    """A running `mtaw-fast serve`."""

    def assert_no_error(self) -> None:
        """Fail if the log has an error, and show it."""
        errors = [line for line in self.events() if line["level"] == "error"]
        assert not errors, errors

    def option(self, flag: str) -> str:
        """Return the value of an option of its command."""
        arguments: Any = self.process.args
        return arguments[arguments.index(flag) + 1]

    def ranking_id(self, version: str) -> str:
        """Return an id as this service makes it for a ranking of a bundle version, with the key that it keeps."""
        use_key(load_key(Settings(Path(), feedback=self.option("--feedback"))))
        return new_id(version)

    def anonymous_bytes(self) -> int:
        """Return the anonymous resident memory of its workers (Linux's RssAnon), without the mapped bundle."""
        return self._status_bytes("RssAnon")

    def peak_bytes(self) -> int:
        """Return the peak resident memory of its workers (Linux's VmHWM), with the mapped bundle."""
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.worker_pids()]
        return sum(1024 * int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) for text in texts)


def ask_on(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, headers: Any = None
) -> Reply:
    """Send a request on an open connection. Without `headers`, clicks are trusted: tests send many from one address."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    if headers is None:
        headers = TRUSTED if path.endswith(("/v1/events", "/click")) else {}
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def running(
    bundle: Path, *flags: str, workers: int = 1, environment: dict[str, str] | None = None, **more: Any
) -> Iterator[Running]:
    """Serve a bundle, with the tokens of the tests; at the end it must stop on SIGTERM. more: see `Service`."""
    environment = {"MTAW_ADMIN_TOKEN": ADMIN_TOKEN, "MTAW_EVENTS_TOKEN": EVENTS_TOKEN} | (environment or {})
    with (
        tempfile.TemporaryDirectory(prefix="mtaw-fast-test-") as folder,
        Running(bundle, Path(folder) / "log", workers, (*FRESH, *flags), environment=environment, **more) as service,
    ):
        yield service
        if service.running:
            assert service.stop() == 0, service.last_words()


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until a condition is true, and return its value."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not true within {seconds} s"
        time.sleep(0.02)
    return value


def refused(reply: Reply, status: int, code: str) -> str:
    """Check the form of an error response; return its message."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json) == {"error", "version"}
    assert set(reply.json["error"]) == {"code", "message"}
    assert reply.json["version"] == reply.version
    assert re.fullmatch("[0-9a-f]{16}", reply.version)
    assert reply.code == code
    message = reply.json["error"]["message"]
    assert message
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def good(reply: Reply) -> Any:
    """Check that a reply is a 200 with matching versions; return its JSON."""
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["version"] == reply.version
    return reply.json


def same(answer: dict[str, Any], out: Any) -> None:
    """Check that an answer is exactly that ranking."""
    assert answer["items"] == out.items
    assert list(map(type, answer["items"])) == list(map(type, out.items))
    assert np.array_equal(np.array(answer["scores"], np.float32), out.scores)
    assert answer.get("unknown", []) == out.unknown
    assert answer.get("fallback", False) == out.fallback


def rest(connection: socket.socket) -> bytes:
    """Return all bytes until the connection ends."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


class TwoWorkers:
    """A kept connection to each of the two workers of a service."""

    def __init__(self, service: Running) -> None:
        self.connections: dict[int, http.client.HTTPConnection] = {}
        self._spare: list[http.client.HTTPConnection] = []
        deadline = time.monotonic() + 20
        while len(self.connections) < 2:
            assert time.monotonic() < deadline, "all connections went to one worker"
            connection = service.connect()
            ask_on(connection, "GET", "/healthz")
            worker = self._worker(service, connection)
            if self.connections.setdefault(worker, connection) is not connection:
                self._spare.append(connection)

    @staticmethod
    def _worker(service: Running, connection: http.client.HTTPConnection) -> int:
        """Return the process at the other end."""
        address = connection.sock.getsockname()
        for worker in service.workers():
            if any(peer.raddr == address for peer in worker.net_connections("tcp")):
                return worker.pid
        raise AssertionError(f"no worker holds {address}")

    def close(self) -> None:
        """Close all connections."""
        for connection in (*self.connections.values(), *self._spare):
            connection.close()


@dataclass
class Seen:
    """The record of one client: requests with their replies, and errors of requests without a reply."""

    replies: list[tuple[Any, Reply]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@contextlib.contextmanager
def traffic(service: Running, make: Callable[[int, int], tuple[str, Any]], clients: int = 4) -> Iterator[list[Seen]]:
    """Run clients that each keep a connection and send make(client, number) -> (path, body) one after the other.

    A broken connection is replaced.
    """
    stop = threading.Event()
    seen = [Seen() for _ in range(clients)]
    threads = [
        threading.Thread(target=_client, args=(service, make, number, seen[number], stop)) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _client(
    service: Running, make: Callable[[int, int], tuple[str, Any]], client: int, seen: Seen, stop: threading.Event
) -> None:
    connection, number = service.connect(), 0
    while not stop.is_set():
        path, body = make(client, number)
        number += 1
        try:
            seen.replies.append((body, ask_on(connection, "POST", path, body)))
        except (OSError, http.client.HTTPException) as error:
            seen.lost.append(repr(error))
            connection.close()
            connection = service.connect()
    connection.close()
