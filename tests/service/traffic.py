"""Clients that ask and ask while something happens to the service, and keep what they saw."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.service.running import Reply, Running, ask_on


@dataclass
class Seen:
    """What one client saw: replies, with what was asked, and requests that got none."""

    replies: list[tuple[Any, Reply]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@contextlib.contextmanager
def traffic(service: Running, make: Callable[[int, int], tuple[str, Any]], clients: int = 4) -> Iterator[list[Seen]]:
    """Clients that each keep a connection and send make(client, number) -> (path, body), as fast as they are answered.

    A connection that breaks is replaced.
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
