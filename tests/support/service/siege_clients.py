"""Hostile clients of a siege: each kind repeats its attack until the siege ends."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.support.service.hostile_cases import case, request
from tests.support.service.hostile_requests import cycle, judged

Address = tuple[str, int]

_GOOD = request(b'{"session": ["sku-7", "sku-17"], "k": 5}')
_UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
_CHUNKED = b"POST /v1/recommend HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
_IDLE, _SLOW = 300, 40  # connections of a client of these kinds


class Besieging:
    """State of the clients: attacks by kind, and a line for each failure."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.over = threading.Event()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def connect(self) -> socket.socket:
        """Return a connected socket. Raises OSError."""
        return socket.create_connection(self.address, timeout=20)


def _idle(siege: Besieging) -> None:
    """Keep many idle connections; replace those that the service closes."""
    links: list[socket.socket] = []
    while not siege.over.wait(0.02):
        with suppress(OSError):
            link = siege.connect()
            if len(links) % 2:
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n")
            links.append(link)
            siege.counts["idle"] += 1
        if len(links) > _IDLE:
            links.pop(0).close()
    for link in links:
        link.close()


def _slow(siege: Besieging) -> None:
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


def _trailing(siege: Besieging) -> None:
    """Send trailers: a few, which are allowed, and endless ones."""
    number = 0
    while not siege.over.wait(0.02):
        number += 1
        with suppress(OSError), siege.connect() as link:
            link.sendall(_CHUNKED + b'8\r\n{"sessio\r\n' + b'd\r\nn":["sku-7"]}\r\n' + b"0\r\n")
            siege.counts["trailing"] += 1
            if number % 2:
                for _ in range(50):
                    link.sendall(b"Trailer: of some length\r\n" * 400)
            else:
                link.sendall(b"Authorization: Bearer x\r\n\r\n")
                _expect_200(siege, "a request with a trailer", link)


def _upgrading(siege: Besieging) -> None:
    """Ask for upgrades, which are not made; send the body later."""
    data = request(b'{"session": ["sku-7", "sku-17"], "k": 5}', headers=_UPGRADE)
    cut = data.index(b"\r\n\r\n") + 4
    while not siege.over.wait(0.02):
        with suppress(OSError), siege.connect() as link:
            link.sendall(data[:cut])
            time.sleep(0.005)
            link.sendall(data[cut:])
            siege.counts["upgrading"] += 1
            _expect_200(siege, "a request with an upgrade", link)


def _vanishing(siege: Besieging) -> None:
    """Close with a reset, in the middle of a request or right after it."""
    number = 0
    while not siege.over.wait(0.005):
        number += 1
        with suppress(OSError), siege.connect() as link:
            link.sendall(_GOOD[: len(_GOOD) * (1 + number % 4) // 4])
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            siege.counts["vanishing"] += 1


def _hostile(siege: Besieging) -> None:
    """Send the cases of `tests.service.hostile`, except those of 100 MB, which have tests of their own."""
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


def _expect_200(siege: Besieging, what: str, link: socket.socket) -> None:
    """Note an answer of another status. No answer, or a 503, may come from a killed or busy worker."""
    received = link.recv(1 << 16)
    if received and not received.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503")):
        siege.wrong.append(f"{what} is answered {received[:60]!r}")


KINDS: tuple[Callable[[Besieging], None], ...] = (_idle, _slow, _trailing, _upgrading, _vanishing, _hostile)


@contextmanager
def besieged(address: Address) -> Iterator[Besieging]:
    """Run a client of each kind in a thread."""
    siege = Besieging(address)
    threads = [threading.Thread(target=kind, args=(siege,)) for kind in KINDS]
    for thread in threads:
        thread.start()
    try:
        yield siege
    finally:
        siege.over.set()
        for thread in threads:
            thread.join()
