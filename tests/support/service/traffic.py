"""Clients that send requests without a pause during a test, and record the replies."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.service.running import Reply, Running, ask_on


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
