"""Stopping a service under load: every connection that it accepted is answered.

    python -m tests.service.stops --count 50      with one worker, and as often with two

Clients send requests without a pause, some on a new connection for each request, some on kept ones, while the service
is stopped. A connection that was established and ends without an answer is cut; a refused connection or a 503 is fine.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.random_bundle import save_random
from tests.support.service.running import Running

_KINDS = ("fresh",) * 5 + ("kept",) * 3


@dataclass
class Stopped:
    """What clients saw while services stopped.

    statuses: number of answers by status. cut: number of connections without an answer, by kind of client. seconds: of
    each stop.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{len(self.seconds)} stops of {min(self.seconds):.1f} to {max(self.seconds):.1f} s: answers {answers}; "
            f"{self.cut.total()} connections cut {dict(self.cut) or ''}"
        )


def stop_under_load(bundle: Path, log: Path, workers: int, outcome: Stopped) -> None:
    """Start a service, load it and stop it; add the results to `outcome`."""
    with Running(bundle, log, workers) as service:
        lock = threading.Lock()
        threads = [threading.Thread(target=_client, args=(service.address, kind, outcome, lock)) for kind in _KINDS]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        status = service.stop()
        outcome.seconds.append(time.monotonic() - began)
        for thread in threads:
            thread.join()
    assert status == 0, service.last_words()


def _client(address: tuple[str, int], kind: str, outcome: Stopped, lock: threading.Lock) -> None:
    connection = http.client.HTTPConnection(*address, timeout=30)
    while True:
        if connection.sock is None:
            try:
                connection.connect()
            except OSError:
                return
        status, is_last = 0, True
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/v1/recommend", b'{"session": ["sku-3", "sku-4"], "k": 5}')
            response = connection.getresponse()
            response.read()
            status, is_last = response.status, response.will_close
        with lock:
            if status:
                outcome.statuses[status] += 1
            else:
                outcome.cut[kind] += 1
        if is_last or kind == "fresh":
            connection.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 if no connection was cut."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="stops with one worker, and with two (default: 50)")
    options = parser.parse_args(arguments)
    cut = 0
    with tempfile.TemporaryDirectory() as name:
        save_random(Path(name) / "bundle")
        for workers in (1, 2):
            outcome = Stopped()
            for _ in range(options.count):
                stop_under_load(Path(name) / "bundle", Path(name) / "log", workers, outcome)
            print(f"{workers} workers: {outcome}", flush=True)
            cut += outcome.cut.total()
    return int(cut > 0)


if __name__ == "__main__":
    sys.exit(main())
