"""Stopping a service under load: whoever it let in is answered.

    python -m tests.service.stops --count 50      with one worker, and as often with two

Clients ask without a pause, some on a connection for each request, some on kept ones, while the service is stopped. A
connection that came about and ends without an answer was cut off; to be refused, or told 503, is fine.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.service.hostile_cases import request
from tests.service.running import Running
from tests.support.random_bundle import save_random

_KINDS = ("fresh",) * 5 + ("kept",) * 3
_ASKED = request(b'{"session": ["sku-3", "sku-4"], "k": 5}')
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


@dataclass
class Stopped:
    """What clients met while services stopped. statuses: of answers. cut: of each kind of client, how many connections
    ended without one. seconds: of each stop."""

    statuses: Counter[int] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{len(self.seconds)} stops of {min(self.seconds):.1f} to {max(self.seconds):.1f} s: answers {answers}; "
            f"{self.cut.total()} connections cut {dict(self.cut) or ''}"
        )


def stop_under_load(bundle: Path, log: Path, workers: int, told: Stopped) -> None:
    """Start a service, load it, and stop it; add to `told` what came of it."""
    with Running(bundle, log, workers) as service:
        lock = threading.Lock()
        threads = [threading.Thread(target=_client, args=(service.address, kind, told, lock)) for kind in _KINDS]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        status = service.stop()
        told.seconds.append(time.monotonic() - began)
        for thread in threads:
            thread.join()
    assert status == 0, service.last_words()


def _client(address: tuple[str, int], kind: str, told: Stopped, lock: threading.Lock) -> None:
    """Ask until no connection comes about any more."""
    link = None
    while True:
        if link is None:
            try:
                link = socket.create_connection(address, timeout=30)
            except OSError:
                return
        status, last = _ask(link)
        with lock:
            if status:
                told.statuses[status] += 1
            else:
                told.cut[kind] += 1
        if last or kind == "fresh":
            link.close()
            link = None


def _ask(link: socket.socket) -> tuple[int, bool]:
    """The status of the answer, 0 where there is none; and whether it is the last one of the connection."""
    received = b""
    try:
        link.sendall(_ASKED)
        while True:
            head, end, body = received.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if end and length and len(body) >= int(length[1]):
                return int(head[9:12]), b"connection: close" in head.lower()
            more = link.recv(1 << 16)
            if not more:
                return 0, True
            received += more
    except OSError:
        return 0, True


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0 where no connection was cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="stops with one worker, and with two (default: 50)")
    options = parser.parse_args(arguments)
    cut = 0
    with tempfile.TemporaryDirectory() as name:
        save_random(Path(name) / "bundle")
        for workers in (1, 2):
            told = Stopped()
            for _ in range(options.count):
                stop_under_load(Path(name) / "bundle", Path(name) / "log", workers, told)
            print(f"{workers} workers: {told}", flush=True)
            cut += told.cut.total()
    return int(cut > 0)


if __name__ == "__main__":
    sys.exit(main())
