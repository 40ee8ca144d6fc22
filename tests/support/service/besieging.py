"""Hostile clients: each kind repeats its attack until the siege ends."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from tests.support.service.hostile import case, cycle, judged, request

Address = tuple[str, int]
PING = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

_GOOD = request(b'{"session": ["sku-7", "sku-17"], "k": 5}')
_SLOW = 40  # connections of a slow client


class Siege:
    """State of the clients: attacks by kind, and a line for each failure."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.over = threading.Event()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def connect(self) -> socket.socket:
        """Return a connected socket. Raises OSError."""
        return socket.create_connection(self.address, timeout=20)


Kind = Callable[[Siege], None]


def holding(attack: Callable[[socket.socket], Any], count: int) -> Kind:
    """Return a client that keeps `count` connections in the state that `attack` brings each into.

    It opens new ones for those that the service closes.
    """

    def hold(siege: Siege) -> None:
        links: list[socket.socket] = []
        with ExitStack() as stack:
            while not siege.over.is_set():
                if len(links) < count:
                    with suppress(OSError):
                        links.append(stack.enter_context(siege.connect()))
                        attack(links[-1])
                        siege.counts[attack.__name__] += 1
                    continue
                time.sleep(0.01)
                links = [link for link in links if not _is_gone(link)]

    return hold


def _is_gone(link: socket.socket) -> bool:
    link.settimeout(0)
    try:
        return link.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def idle(link: socket.socket) -> None:
    """Say nothing; on every second connection, after a request."""
    if link.fileno() % 2:
        link.sendall(PING)


def half(link: socket.socket) -> None:
    """Send a part of a request."""
    link.sendall(PING[:-4])


def slow(siege: Siege) -> None:
    """Send heads and bodies one byte at a time."""
    links: dict[socket.socket, int] = {}
    while not siege.over.wait(0.05):
        with suppress(OSError):
            if len(links) < _SLOW:
                links[siege.connect()] = 0
                siege.counts["slow"] += 1
        for link, sent in list(links.items()):
            try:
                link.sendall(_GOOD[sent : sent + 1])
                links[link] = sent + 1
            except OSError:
                sent = len(_GOOD)
            if sent >= len(_GOOD) - 2:
                link.close()
                del links[link]
    for link in links:
        link.close()


def hostile(siege: Siege) -> None:
    """Send hostile cases, except those of 100 MB, which have tests of their own."""
    number = 0
    while not siege.over.wait(0.01):
        number += 1
        hostile_case = case(number)
        if hostile_case.kind == "100 MB":
            continue
        with suppress(OSError):
            reply = cycle(siege.address, hostile_case)
            siege.counts["hostile"] += 1
            # A killed worker or the stopping service may cut a connection.
            wrong = judged(hostile_case, reply) if reply.status not in (0, 503) else None
            if wrong is not None:
                siege.wrong.append(f"case {number} ({hostile_case.kind}): {wrong}")


@contextmanager
def besieged(address: Address, kinds: Sequence[Kind]) -> Iterator[Siege]:
    """Run a client of each kind in a thread."""
    siege = Siege(address)
    threads = [threading.Thread(target=kind, args=(siege,)) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield siege
    finally:
        siege.over.set()
        for thread in threads:
            thread.join()
