"""Hostile clients against a running service: no 5xx but 503, no dead worker, flat memory.

    python -m tests.service.hostile --bodies 10000           until done
    python -m tests.service.hostile --first 4711 --bodies 1  one case again

Every case is a connection of its own. Then slow clients, and more idle clients than the service accepts, keep their
connections open while a regular client must get its usual answers. `tests.service.stops` stops services under load;
`tests.service.siege` does everything at once for half an hour.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from tests.support.random_bundle import save_random
from tests.support.service.besieging import Kind, besieged, half, holding, idle, slow
from tests.support.service.hostile import Case, Reply, case, cycle, judged
from tests.support.service.running import Reply as HttpReply
from tests.support.service.running import Running, ask_on

N_ITEMS = 80
WORKERS = 2
READ_TIMEOUT = 2  # seconds that the service waits for a slow client
OPTIONS = ("--read-timeout", str(READ_TIMEOUT), "--max-connections", "400", "--cors-origin", "https://shop.example")
BOUND = 16 << 20  # bytes that a worker may grow after the warm-up: malloc arenas fill slowly
_PARTS = 10  # of a run; memory is measured after each
_THREADS = 8
_GOOD = {"session": ["sku-3", "sku-4"], "k": 5}


@dataclass
class Outcome:
    """Result of an attack.

    statuses: how often each kind of case got each status. wrong: a line for each failure. memory: the workers' own
    bytes at the end of equal parts of the run; the first part is the warm-up.
    """

    cases: int = 0
    seconds: float = 0.0
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        names = {0: "closed", -1: "no answer"}
        kinds: dict[str, list[str]] = {}
        for (kind, status), count in sorted(self.statuses.items()):
            kinds.setdefault(kind, []).append(f"{count} x {names.get(status, str(status))}")
        lines = [f"  {kind}: {', '.join(counts)}" for kind, counts in kinds.items()]
        memory = ", ".join(f"{size / 2**20:.1f}" for size in self.memory)
        lines.append(
            f"{self.cases} cases in {self.seconds:.0f} s, {len(self.wrong)} wrong; the workers' own memory in MiB "
            f"over time: {memory}"
        )
        return "\n".join(["answers by kind of case:", *lines, *self.wrong[:20]])


def attack(service: Running, first: int, count: int) -> Outcome:
    """Send cases `first` .. `first + count - 1` to a service with a bundle of `save_random(n_items=N_ITEMS)`."""
    outcome, began = Outcome(), time.monotonic()
    workers = service.worker_pids()
    before = _good_answer(service)
    numbers = range(first, first + count)
    step = -(-count // _PARTS)
    with ThreadPoolExecutor(_THREADS) as pool:
        for begin in range(0, count, step):
            for hostile_case, reply in pool.map(lambda number: _put(service, number), numbers[begin : begin + step]):
                outcome.cases += 1
                outcome.statuses[hostile_case.kind, reply.status] += 1
                wrong = judged(hostile_case, reply)
                if wrong is not None:
                    outcome.wrong.append(f"case {hostile_case.number} ({hostile_case.kind}): {wrong}")
            outcome.memory.append(service.anonymous_bytes())
    outcome.wrong += _still_well(service, workers, before)
    growth = outcome.memory[-1] - outcome.memory[0]
    if growth > BOUND * len(workers):
        outcome.wrong.append(f"memory grew by {growth} bytes after the warm-up")
    outcome.seconds = time.monotonic() - began
    return outcome


def _still_well(service: Running, workers: set[int], before: tuple[int, bytes]) -> list[str]:
    wrong = []
    if service.worker_pids() != workers:
        wrong.append(f"workers {sorted(workers)} were to live, {sorted(service.worker_pids())} are there")
    if before[0] != 200 or _good_answer(service) != before:
        wrong.append("a good request got another answer than before")
    return wrong


def _good_answer(service: Running) -> tuple[int, bytes]:
    """Return status and body of the answer to a good request."""
    reply = service.ask("POST", "/v1/recommend", _GOOD, timeout=10)
    return _comparable(reply)


def _comparable(reply: HttpReply) -> tuple[int, bytes]:
    """Return status and body without the ranking's id, which is unique."""
    return reply.status, re.sub(rb'"recommendation":"[^"]*"', b"", reply.body)


def _put(service: Running, number: int) -> tuple[Case, Reply]:
    hostile_case = case(number)
    return hostile_case, cycle(service.address, hostile_case)


def accompanied(service: Running, kinds: Sequence[Kind], seconds: float) -> Outcome:
    """Run hostile clients for so long, together with a regular one that keeps a connection and one that does not."""
    outcome, began = Outcome(), time.monotonic()
    workers = service.worker_pids()
    before = _good_answer(service)
    with besieged(service.address, kinds) as siege, closing(service.connect()) as connection:
        while time.monotonic() < began + seconds or not outcome.cases:
            sent_at = time.monotonic()
            try:
                reply = ask_on(connection, "POST", "/v1/recommend", _GOOD)
            except (OSError, HTTPException):  # it had waited for longest, and was closed for a new one
                connection.close()
                reply = ask_on(connection, "POST", "/v1/recommend", _GOOD)
            if _good_answer(service) != before or _comparable(reply) != before:
                outcome.wrong.append("a good request got another answer while hostile clients were connected")
            if time.monotonic() - sent_at > 5:
                outcome.wrong.append(f"two good requests took {time.monotonic() - sent_at:.1f} s")
            outcome.cases += 1
            outcome.statuses["good", reply.status] += 1
            time.sleep(0.05)
        outcome.memory.append(service.anonymous_bytes())
    outcome.seconds = time.monotonic() - began
    outcome.wrong += siege.wrong + _still_well(service, workers, before)
    return outcome


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--bodies", type=int, default=10_000, help="how many cases")
    parser.add_argument("--slow", type=int, default=300, help="how many slow and unfinished clients at once")
    parser.add_argument("--idle", type=int, default=1500, help="how many idle clients at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        save_random(Path(name) / "bundle", n_items=N_ITEMS)
        with Running(Path(name) / "bundle", Path(name) / "log", WORKERS, OPTIONS) as service:
            outcomes = [
                attack(service, options.first, options.bodies),
                accompanied(service, (slow, holding(half, options.slow)), 30),
                accompanied(service, (holding(idle, options.idle),), 30),
            ]
    for outcome in outcomes:
        print(outcome)
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
