"""Hostile clients against a running service: no 5xx but 503, no dead worker, flat memory.

    python -m tests.service.hostile --bodies 10000           until done
    python -m tests.service.hostile --first 4711 --bodies 1  one case again

Every case is a connection of its own (`hostile_cases.py`). Then slow clients, and then more idle clients than the
service accepts, keep their connections open while a regular client must get its usual answers. `tests.service.stops`
stops services under load; `tests.service.siege` does everything at once for half an hour.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.random_bundle import save_random
from tests.support.service import hostile_cases
from tests.support.service.hostile_cases import Case, case, request
from tests.support.service.hostile_requests import PATIENCE, STATUS, Reply, cycle, judged, wait_ready
from tests.support.service.running import Reply as HttpReply
from tests.support.service.running import Running, ask_on

N_ITEMS = 80
WORKERS = 2
READ_TIMEOUT = 2  # seconds that the service waits for a slow client
OPTIONS = ("--read-timeout", str(READ_TIMEOUT), "--max-connections", "400", "--cors-origin", "https://shop.example")
TOKEN = {"MTAW_ADMIN_TOKEN": hostile_cases.TOKEN, "MTAW_FEEDBACK_KEY": hostile_cases.KEY}
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


def slow_clients(service: Running, count: int) -> Outcome:
    """Run `count` clients that send a byte now and then, or do not read, together with a regular one.

    The service must close all of them, and give the regular client its usual answers.
    """
    outcome, began = Outcome(cases=count), time.monotonic()
    workers = service.worker_pids()
    good = json.dumps(_GOOD).encode()
    before = _good_answer(service)
    message = request(good)
    unread_request = request(json.dumps({"sessions": [["sku-1"]] * 200, "k": N_ITEMS}).encode(), "/v1/recommend/batch")
    outcome.memory.append(service.anonymous_bytes())
    links: dict[socket.socket, tuple[str, bytes]] = {}
    for number in range(count):
        kind, data = (("slow head", message[:30]), ("slow body", message[: -len(good) + 3]), ("idle", b""))[number % 3]
        link = socket.create_connection(service.address, timeout=PATIENCE)
        link.setblocking(False)
        link.send(data)
        links[link] = kind, message[len(data) :]
    unread = [_unreading_client(service.address, unread_request) for _ in range(max(1, count // 20))]
    slowest = 0.0
    while links and time.monotonic() < began + PATIENCE:
        sent_at = time.monotonic()
        if _good_answer(service) != before:
            outcome.wrong.append("a good request got another answer while slow clients were connected")
        slowest = max(slowest, time.monotonic() - sent_at)
        time.sleep(0.2)
        for link in list(links):
            kind, unsent = links[link]
            status = _crawl(link, unsent)
            if status is None:
                links[link] = kind, unsent[1:]
                continue
            outcome.statuses[kind, status] += 1
            if status >= 500 and status != 503:
                outcome.wrong.append(f"{kind}: status {status}")
            link.close()
            del links[link]
    for kind, _ in links.values():
        if kind != "idle":  # a connection without a request may stay open
            outcome.wrong.append(f"{kind}: still open after {PATIENCE:g} s")
    for link in (*links, *unread):
        link.close()
    outcome.memory.append(service.anonymous_bytes())
    outcome.seconds = time.monotonic() - began
    outcome.wrong += _still_well(service, workers, before)
    if slowest > 5.0:
        outcome.wrong.append(f"a good request took, while slow clients were connected, {slowest:.1f} s")
    return outcome


def _crawl(link: socket.socket, rest: bytes) -> int | None:
    """Send one more byte, except the last one; return the status (0: closed) once the service ends it."""
    try:
        if wait_ready(link, select.POLLIN, 0):
            received = link.recv(1 << 16)
            match = STATUS.match(received)
            return int(match[1]) if match else 0
        if len(rest) > 1:
            link.send(rest[:1])
    except BlockingIOError:
        return None
    except OSError:
        return 0
    return None


def idle_clients(service: Running, count: int) -> Outcome:
    """Run `count` idle clients, many more than the service accepts at once, together with two regular ones.

    Half of the idle clients send one request first. One regular client opens a connection for each request, the other
    keeps one.
    """
    outcome, began = Outcome(cases=count), time.monotonic()
    workers = service.worker_pids()
    before = _good_answer(service)
    with ExitStack() as stack:
        connection = stack.enter_context(closing(service.connect()))
        for number in range(count):
            link = stack.enter_context(socket.create_connection(service.address, timeout=PATIENCE))
            if number % 2:
                link.sendall(b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n")
            if number % 20 == 0:
                sent_at = time.monotonic()
                reply = ask_on(connection, "POST", "/v1/recommend", _GOOD)
                if _good_answer(service) != before or _comparable(reply) != before:
                    outcome.wrong.append("a good request got another answer while idle clients were connected")
                if time.monotonic() - sent_at > 5:
                    outcome.wrong.append(f"two good requests took {time.monotonic() - sent_at:.1f} s")
                outcome.statuses["good", reply.status] += 1
        outcome.memory.append(service.anonymous_bytes())
    outcome.seconds = time.monotonic() - began
    outcome.wrong += _still_well(service, workers, before)
    return outcome


def _unreading_client(address: tuple[str, int], data: bytes) -> socket.socket:
    """Connect a client that sends many large requests and reads nothing."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.connect(address)
    link.setblocking(False)
    with suppress(BlockingIOError, OSError):
        for _ in range(20):
            link.send(data)
    return link


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--bodies", type=int, default=10_000, help="how many cases")
    parser.add_argument("--slow", type=int, default=300, help="how many slow clients at once")
    parser.add_argument("--idle", type=int, default=1500, help="how many idle clients at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        save_random(Path(name) / "bundle", n_items=N_ITEMS)
        flags = (*OPTIONS, "--feedback", f"{name}/feedback/")
        with Running(Path(name) / "bundle", Path(name) / "log", WORKERS, flags, environment=TOKEN) as service:
            outcomes = [attack(service, options.first, options.bodies)]
            if options.slow:
                outcomes.append(slow_clients(service, options.slow))
            if options.idle:
                outcomes.append(idle_clients(service, options.idle))
    for outcome in outcomes:
        print(outcome)
    return int(any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
