"""A siege: honest clients send requests while hostile ones attack, bundles are replaced and workers are killed.

    python -m tests.service.siege [--seconds 1800]

An honest request may fail only if a killed worker had it in progress. Every answer must be, to the bit, that of the
bundle it names, and the workers' memory must not grow. At the end the service is stopped under this load.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.serving.checks import Versions, parse_answer
from bench.serving.inputs import distinct_sessions, publish, recommend_requests
from bench.serving.traffic import Measured, Traffic, in_flight, measure
from mtaw_fast.bundle import Bundle
from tests.support.random_bundle import save_random
from tests.support.service.besieging import besieged, holding, hostile, idle, slow
from tests.support.service.running import Running

N_ITEMS, K = 3000, 10
WORKERS = 2
OPTIONS = ("--read-timeout", "2", "--max-connections", "120", "--reload-interval", "0.1")
RATE, CONNECTIONS = 60.0, 12  # of the honest clients: requests a second
ROUND = 20.0  # seconds: in each, two bundles are published and a worker is killed
GROWTH = 32 << 20  # bytes that the workers may grow after the first quarter


@dataclass
class Siege:
    """Result of a siege.

    asked, excused, failed: honest requests; a killed worker had the excused ones in progress. worst: 99th percentile of
    each round in ms. wrong: a line for each failure.
    """

    seconds: float = 0.0
    asked: int = 0
    excused: int = 0
    failed: int = 0
    reloads: int = 0
    kills: int = 0
    median: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        others = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.others.items()))
        memory = ", ".join(f"{size >> 20}" for size in self.memory[:: max(1, len(self.memory) // 8)])
        return "\n".join(
            [
                f"{self.seconds:.0f} s, {self.asked:,} honest requests, {self.failed} failed ({self.excused} more were "
                f"in progress on {self.kills} killed workers), {self.reloads} reloads",
                f"median {np.median(self.median):.1f} ms, p99 {np.median(self.worst):.1f} ms (medians of the rounds; "
                f"worst p99 {max(self.worst):.0f} ms)",
                f"hostile clients: {others}",
                f"the workers' own memory in MiB over time: {memory}",
                *self.wrong[:20],
            ]
        )


def lay_siege(work: Path, seconds: float, round_seconds: float = ROUND) -> Siege:
    """Besiege a service for about that many seconds, in whole rounds."""
    folders = [work / f"bundle-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        save_random(folder, n_items=N_ITEMS, embedding_dim=32, seed=seed)
    publish(folders[1], work / "served")
    siege, began = Siege(), time.monotonic()
    with Running(work / "served", work / "log", WORKERS, OPTIONS) as service:
        with besieged(service.address, (holding(idle, 300), slow, hostile)) as clients:
            number = 0
            while number == 0 or time.monotonic() - began < seconds:
                _round(siege, service, folders, number, round_seconds)
                number += 1
            status = service.stop()
        if status != 0:
            siege.wrong.append(f"the service ended with status {status}: {service.last_words()}")
        siege.wrong += _surprises(service, siege.kills)
    siege.others, siege.seconds = clients.counts, time.monotonic() - began
    siege.wrong += clients.wrong
    settled = siege.memory[len(siege.memory) // 4 :]
    if len(settled) > 4 and settled[-1] - min(settled[0], settled[1]) > GROWTH:
        siege.wrong.append(f"memory grew from {settled[0]} to {settled[-1]} bytes")
    return siege


def _round(siege: Siege, service: Running, folders: list[Path], number: int, seconds: float) -> None:
    """Run one round: honest clients send requests; a bundle is published, a worker killed, a bundle published."""
    traffic = Traffic(RATE, 0.0, seconds, seed=number, connections=CONNECTIONS)
    sessions = distinct_sessions(N_ITEMS, traffic.max_requests, traffic.seed)
    requests = recommend_requests(sessions, Bundle.load(folders[0], verify=False).ids.external, K)
    kills: list[tuple[float, np.ndarray]] = []

    def meanwhile(start: float) -> None:
        for share, source in ((0.15, folders[0]), (0.6, folders[1])):
            time.sleep(max(0.0, start + share * seconds - time.monotonic()))
            publish(source, service.bundle)
            siege.reloads += 1
            if not kills:
                time.sleep(max(0.0, start + 0.3 * seconds - time.monotonic()))
                victim = service.workers()[number % WORKERS]
                ports = [connection.raddr.port for connection in victim.net_connections("tcp") if connection.raddr]
                kills.append((time.monotonic(), np.array(ports)))
                os.kill(victim.pid, signal.SIGKILL)
                siege.kills += 1
        service.wait_until_ready(60)

    measured = measure(service, requests, traffic, 1.0, meanwhile)
    service.wait_until_ready(60)
    siege.memory.append(service.anonymous_bytes())
    _judge(siege, measured, kills, Versions.of(folders, sessions.slice(0, len(measured.outcome.due)), K), number)


def _judge(
    siege: Siege, measured: Measured, kills: list[tuple[float, np.ndarray]], versions: Versions, number: int
) -> None:
    outcome = measured.outcome
    lost = outcome.status != 200
    excused = lost & in_flight(outcome, kills)
    siege.asked += len(outcome.status)
    siege.excused += int(excused.sum())
    siege.failed += int((lost & ~excused).sum())
    siege.median.append(measured.percentile(50))
    siege.worst.append(measured.percentile(99))
    for row in np.flatnonzero(lost & ~excused)[:5].tolist():
        siege.wrong.append(
            f"round {number}: an honest request failed (status {outcome.status[row]}, due at {outcome.due[row]:.2f} s)"
        )
    for row, data in outcome.kept.items():
        error = versions.error(row, parse_answer(data)) if outcome.status[row] == 200 else None
        if error is not None:
            siege.wrong.append(f"round {number}: {error}")


def _surprises(service: Running, kills: int) -> list[str]:
    """Return errors in the log that no kill explains."""
    events = [event for event in service.events() if event["level"] == "error"]
    died = [event for event in events if event["event"] == "worker_died"]
    wrong = [str(event) for event in events if event["event"] != "worker_died"]
    if len(died) != kills or any(event["status"] != -signal.SIGKILL for event in died):
        wrong.append(f"{kills} workers were killed, but these died: {died}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="how long (default: 1800)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-siege-") as name:
        siege = lay_siege(Path(name), options.seconds)
    print(siege)
    return int(bool(siege.wrong))


if __name__ == "__main__":
    sys.exit(main())
