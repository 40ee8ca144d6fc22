"""Single requests to a service, over a connection to a chosen worker."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from bench.serving.service_process import Service
from mtaw_fast.errors import MtawError

_TRIES = 200


def post(path: str, value: Any) -> bytes:
    """Return a whole HTTP request with a body of JSON."""
    body = json.dumps(value, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class ServiceClient(AbstractContextManager["ServiceClient"]):
    """A connection to a service that stays open. worker: the process that must accept it; any if None.

    Raises MtawError if no connection reaches that worker.
    """

    def __init__(self, service: Service, worker: int | None = None) -> None:
        for _ in range(_TRIES):
            self._connection = http.client.HTTPConnection(*service.address, timeout=30)
            self._connection.connect()
            self.request("GET", "/v1/bundle")  # after an answer, a worker has accepted the connection
            if worker is None or _serves(service, worker, self._connection.sock.getsockname()[1]):
                return
            self._connection.close()
        raise MtawError(f"no connection of {_TRIES} reached worker {worker}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(self, method: str, path: str, value: Any = None) -> dict[str, Any]:
        """Send a request and return the JSON of the answer. Raises MtawError on a status other than 200."""
        body = None if value is None else json.dumps(value, separators=(",", ":")).encode()
        self._connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != 200:
            raise MtawError(f"{method} {path} was answered with status {response.status}: {data[:200]!r}")
        return json.loads(data)

    def recommend(self, session: Sequence[Any], k: int) -> dict[str, Any]:
        """Request a ranking."""
        return self.request("POST", "/v1/recommend", {"session": list(session), "k": k})


def until(condition: Callable[[], bool], what: str, seconds: float, pause: float = 0.002) -> None:
    """Wait for a condition. Raises MtawError with the text `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise MtawError(f"{what} in {seconds:g} s")
        time.sleep(pause)


def _serves(service: Service, worker: int, port: int) -> bool:
    (process,) = [candidate for candidate in service.workers() if candidate.pid == worker]
    return any(connection.raddr and connection.raddr.port == port for connection in process.net_connections("tcp"))
