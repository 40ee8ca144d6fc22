"""One load on one service: its arrivals, latencies, errors and costs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from bench.harness.report import Row
from bench.serving.http_client import RESET, TIMED_OUT, Load, Outcome, RunningLoad
from bench.serving.service_process import Service
from mtaw_fast.errors import UsageError

NOTICE = 0.25  # seconds after a kill within which the client learns that the connections to the worker are gone
_NAMES = {RESET: "connection lost", TIMED_OUT: "no answer in time"}


@dataclass(frozen=True, slots=True)
class Traffic:
    """A load. rate: requests a second after the ramp. ramp, steady: seconds of the ramp, and at the full rate.

    connections: of the client.
    """

    rate: float
    ramp: float
    steady: float
    seed: int = 0
    connections: int = 64

    @property
    def max_requests(self) -> int:
        """More requests than the load has."""
        expected = self.rate * (self.ramp / 2 + self.steady)
        return int(expected + 8 * expected**0.5 + 20)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A load's outcome and costs. Latencies and costs are of arrivals after the ramp, errors of the whole load.

    server_cpu, client_cpu: seconds of processor time a request. others: share of the machine's processor time that
    other processes used, which disturbs the measurement.
    """

    traffic: Traffic
    outcome: Outcome
    server_cpu: float
    client_cpu: float
    others: float

    @property
    def latencies(self) -> np.ndarray:
        """Milliseconds of the answered requests after the ramp: float64[n]."""
        steady = self.outcome.due >= self.traffic.ramp
        return self.outcome.latency[steady & (self.outcome.status == 200)] * 1e3

    @property
    def errors(self) -> int:
        """Requests without an answer of status 200."""
        return int((self.outcome.status != 200).sum())

    @property
    def error_kinds(self) -> str:
        """Number of errors of each kind, as text."""
        kinds = Counter(self.outcome.status[self.outcome.status != 200].tolist())
        return ", ".join(f"{count} " + _NAMES.get(status, f"status {status}") for status, count in kinds.items())

    @property
    def answered(self) -> float:
        """Answers a second after the ramp."""
        done = self.outcome.done[self.outcome.status == 200] - self.outcome.began
        return float(((done >= self.traffic.ramp) & (done < self.traffic.ramp + self.traffic.steady)).sum()) / (
            self.traffic.steady
        )

    @property
    def offered(self) -> float:
        """Requests a second that arrived after the ramp."""
        return float((self.outcome.due >= self.traffic.ramp).sum()) / self.traffic.steady

    def percentile(self, percent: float) -> float:
        """Return the smallest latency in ms that at least `percent` of the answers do not exceed."""
        return float(np.percentile(self.latencies, percent, method="inverted_cdf"))

    def lateness(self, percent: float) -> float:
        """Return the same percentile of the client's lateness: ms from due to sent."""
        return float(np.nanpercentile(self.outcome.lateness, percent) * 1e3)

    def row(self, params: dict[str, Any], **more: Any) -> Row:
        """Return the result in the bench's JSON schema."""
        load = {"rate": self.traffic.rate, "seconds": self.traffic.steady, "connections": self.traffic.connections}
        figures = {
            "p90": self.percentile(90), "p999": self.percentile(99.9), "errors": self.errors,
            "answered": self.answered, "server_cpu_us": self.server_cpu * 1e6, "client_cpu_us": self.client_cpu * 1e6,
            "client_late_p50_ms": self.lateness(50), "client_late_p99_ms": self.lateness(99),
            "others_cpu": self.others, **more,
        }  # fmt: skip
        return Row.of("serving", "poisson", {**params, **load, "threads": 1}, "latency_ms", self.latencies, figures)


def in_flight(outcome: Outcome, kills: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return which requests were on a connection to a killed worker and not answered: bool[n].

    kills: time of each, on the clock of `outcome`, and the client's ports that were connected to the worker.
    """
    affected = np.zeros(len(outcome.status), dtype=bool)
    for moment, ports in kills:
        during = (outcome.sent <= moment + NOTICE) & (outcome.done >= moment)
        affected |= during & np.isin(outcome.port, ports)
    return affected


def measure(
    service: Service,
    requests: Sequence[bytes],
    traffic: Traffic,
    kept_share: float,
    meanwhile: Callable[[float], None] | None = None,
) -> Measured:
    """Put a load on a service.

    requests: at least `traffic.max_requests`, each sent at most once. kept_share: the share of the answers to keep.
    meanwhile: called at the end of the ramp with the time of due = 0 on time.monotonic's clock; it
    must end before the load does.
    """
    due = poisson_arrivals(traffic.rate, traffic.ramp, traffic.steady, traffic.seed)
    is_kept = np.random.default_rng([traffic.seed, 1]).random(len(due)) < kept_share
    kept = frozenset(np.flatnonzero(is_kept).tolist())
    load = Load(service.address, requests[: len(due)], due, kept, traffic.connections)
    with RunningLoad(load) as running:
        _sleep_until(running.began + traffic.ramp)
        before = service.cpu_seconds(), _busy_seconds(), time.monotonic()
        if meanwhile is not None:
            meanwhile(running.began)
        _sleep_until(running.began + traffic.ramp + traffic.steady)
        after = service.cpu_seconds(), _busy_seconds(), time.monotonic()
        outcome = running.result()
    server, busy, seconds = (late - early for late, early in zip(after, before, strict=True))
    ended = outcome.done - running.began - traffic.ramp
    finished = int(((ended >= 0) & (ended < traffic.steady)).sum())
    client = outcome.cpu / max(len(due), 1)
    others = (busy - server - client * finished) / (seconds * (psutil.cpu_count() or 1))
    return Measured(traffic, outcome, server / max(finished, 1), client, max(others, 0.0))


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _busy_seconds() -> float:
    """Return the seconds that the machine's processors were not idle."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "softirq", 0.0) + getattr(times, "irq", 0.0))


def poisson_arrivals(rate: float, ramp: float, steady: float, seed: int) -> np.ndarray:
    """Return seconds from the start, ascending: float64[n].

    The rate rises linearly from 0 to `rate` a second during `ramp` seconds and stays there for `steady` more. Arrivals
    are independent of each other and of any answer; equal arguments give equal arrivals. Computed by inversion: the
    times at which the expected count passes the points of a unit Poisson process.

    Raises UsageError if the rate or the steady time is not positive, or the ramp is negative.
    """
    if rate <= 0 or steady <= 0 or ramp < 0:
        raise UsageError(f"a load needs rate > 0, steady > 0, ramp >= 0, not {rate:g}, {steady:g}, {ramp:g}")
    expected = rate * (ramp / 2 + steady)
    generator = np.random.default_rng(seed)
    # Six standard deviations more than expected, so that the loop below rarely has to draw more.
    points = np.cumsum(generator.exponential(size=int(expected + 6 * expected**0.5 + 10)))
    while points[-1] < expected:
        points = np.concatenate([points, points[-1] + np.cumsum(generator.exponential(size=100))])
    points = points[points < expected]
    turn = rate * ramp / 2  # the expected count at the end of the ramp
    rising = np.sqrt(2 * ramp * np.minimum(points, turn) / rate)
    return np.where(points < turn, rising, points / rate + ramp / 2)
