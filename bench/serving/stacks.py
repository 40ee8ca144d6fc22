"""Comparison of ASGI frameworks and servers with the same endpoint: which stack the service uses.

    python -m bench.serving.stacks --quick

Each framework (`bench.serving.stack_apps`) runs on each server with one worker, on the client's machine. Rounds are
interleaved: all stacks run at once, and all but one are idle. Reported: throughput of 16 connections that send the next
request at once, p50 and p99 at a steady Poisson rate, and CPU time a request. `plain` is the lower bound.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from bench.harness.machine import describe, machine_record
from bench.harness.report import Report
from bench.harness.workload import generated
from bench.serving.http_client import Client, Load, Outcome
from bench.serving.inputs import recommend_requests
from bench.serving.stack_apps import APPS
from bench.serving.traffic import poisson_arrivals
from mtaw_fast.errors import MtawError
from mtaw_fast.storage.files import write_json

SERVERS = {
    "uvicorn": ["uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"],
    "granian": ["granian", "--interface", "asgi", "--loop", "uvloop", "--no-ws", "--log-level", "warning"],
}
_CONNECTIONS = 16
_TIMEOUT = 60.0  # seconds; in the throughput part, all requests are due at once


@dataclass
class Stack:
    """A running server and its measurements, one for each round."""

    name: str
    port: int
    process: psutil.Process
    throughput: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Return the CPU time of the server and its children so far."""
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def measure(self, requests: list[bytes], rate: float, seconds: float, seed: int) -> None:
        """Run one round: the steady rate, then the highest throughput."""
        before = self.cpu_seconds()
        steady = self._run(requests, poisson_arrivals(rate, 0, seconds, seed))
        self.cpu.append((self.cpu_seconds() - before) / len(steady.due))
        self.p50.append(float(np.percentile(steady.latency, 50)))
        self.p99.append(float(np.percentile(steady.latency, 99)))
        flat_out = self._run(requests, np.zeros(int(rate * seconds)))
        self.throughput.append(len(flat_out.due) / float(flat_out.done.max() - flat_out.began))

    def _run(self, requests: list[bytes], due: np.ndarray) -> Outcome:
        sent = [requests[number % len(requests)] for number in range(len(due))]
        load = Load(("127.0.0.1", self.port), sent, due, connections=_CONNECTIONS, timeout=_TIMEOUT)
        outcome = Client(load).run(time.monotonic())
        failed = int((outcome.status != 200).sum())
        if failed:
            raise MtawError(f"{self.name} failed {failed} of {len(due)} requests; its log is above")
        return outcome


@contextmanager
def running(server: str, app: str, bundle: Path) -> Iterator[Stack]:
    """Run a server with one worker on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    module, *options = SERVERS[server]
    command = [
        sys.executable,
        "-m",
        module,
        f"bench.serving.stack_apps:{app}_app",
        "--factory",
        "--port",
        str(port),
        *options,
    ]
    process = subprocess.Popen(command, env={**os.environ, "STACK_BUNDLE": str(bundle), "OMP_NUM_THREADS": "1"})
    try:
        _await_port(process, port)
        yield Stack(f"{app} on {server}", port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise MtawError(f"the server ended at its start (exit {process.returncode}); see its message above")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise MtawError("the server does not listen after 30 s; see its messages above")


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--rate", type=float, default=1000, help="requests a second of the steady part")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2, help="of the steady part of a round")
    parser.add_argument("--apps", nargs="+", choices=APPS, default=list(APPS))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rounds, seconds = (3, 1.0) if options.quick else (options.rounds, options.seconds)
    with tempfile.TemporaryDirectory() as name, ExitStack() as open_stacks:
        work = generated(options.items, Path(name))
        requests = recommend_requests(work.serve, work.bundle.ids.external, 20)
        stacks = [
            open_stacks.enter_context(running(server, app, Path(name)))
            for app in options.apps
            for server in options.servers
        ]
        order = np.random.default_rng(0)
        for turn in range(rounds + 1):
            for place in order.permutation(len(stacks)):
                stacks[place].measure(requests, options.rate, seconds, seed=turn)
        for stack in stacks:  # the first round is the warm-up
            stack.throughput, stack.p50, stack.p99, stack.cpu = (
                values[1:] for values in (stack.throughput, stack.p50, stack.p99, stack.cpu)
            )
    print(f"{'stack':24} {'requests/s':>11} {'p50 ms':>8} {'p99 ms':>8} {'CPU us/request':>15}   medians of {rounds}")
    rows = []
    for stack in stacks:
        median = [float(np.median(values)) for values in (stack.throughput, stack.p50, stack.p99, stack.cpu)]
        print(
            f"{stack.name:24} {median[0]:11.0f} {median[1] * 1e3:8.2f} {median[2] * 1e3:8.2f} {median[3] * 1e6:15.0f}"
        )
        rows.append(dict(zip(("throughput", "p50_s", "p99_s", "cpu_s"), median, strict=True), stack=stack.name))
    print(f"{options.items} items, {options.rate:.0f} requests/s; {describe(machine_record())}")
    if options.json is not None:
        report = Report("serving_stacks")
        params = {"catalog": options.items, "rate": options.rate, "seconds": seconds}
        report.records += [{"case": "stack", "params": params, **row} for row in rows]
        write_json(options.json, report.as_json())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
