"""Faults under load: the bundle is replaced again and again, workers are killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.serving.checks import Versions, parse_answer
from bench.serving.http_client import Outcome
from bench.serving.inputs import publish
from bench.serving.service_process import Service
from bench.serving.traffic import Measured, Traffic, kind_of, measure
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.service.snapshot import current_version

NOTICE = 0.25  # seconds after a kill within which the client learns that the connections to the worker are gone
_NAMED = 5  # requests in a message


@dataclass(frozen=True, slots=True)
class Reloads:
    """Bundles published under load.

    seen: number of bundles that answered a request before the next one came. wrong: number of answers that are not, to
    the bit, those of the version that they name. first_wrong: the first of them.
    """

    measured: Measured
    published: int
    seen: int
    checked: int
    wrong: int
    first_wrong: str | None

    @property
    def error(self) -> str | None:
        """None, or one line about wrong answers or failed requests: a reload must not fail any request."""
        if self.first_wrong is not None:
            return f"{self.wrong} answers are wrong; the first: {self.first_wrong}"
        failed = np.flatnonzero(self.measured.outcome.status != 200)
        return f"{len(failed)} requests failed: {_named(self.measured.outcome, failed)}" if len(failed) else None

    def __str__(self) -> str:
        return (
            f"{self.published} hot reloads ({self.seen} of them seen in the answers): {self.measured.errors} failed of "
            f"{len(self.measured.outcome.due)} requests, {self.wrong} wrong or mixed of {self.checked} answers checked"
        )


@dataclass(frozen=True, slots=True)
class Kills:
    """Workers killed under load.

    in_flight: whether a killed worker had the request and did not answer it: bool[n]. recovered: seconds of each kill
    until all workers were ready again.
    """

    measured: Measured
    in_flight: np.ndarray
    recovered: Sequence[float]

    @property
    def failed(self) -> int:
        """Number of failed requests."""
        return self.measured.errors

    @property
    def stray(self) -> np.ndarray:
        """Numbers of the failed requests that were not in flight on a killed worker: int64[n]."""
        return np.flatnonzero((self.measured.outcome.status != 200) & ~self.in_flight)

    @property
    def error(self) -> str | None:
        """None, or one line about the failed requests that no kill explains."""
        outcome, stray = self.measured.outcome, self.stray
        if not len(stray):
            return None
        return f"{len(stray)} requests failed that were in flight on no killed worker: {_named(outcome, stray)}"

    def __str__(self) -> str:
        seconds = ", ".join(f"{duration:.1f}" for duration in self.recovered)
        return (
            f"{len(self.recovered)} workers killed: {self.failed} requests failed, {self.in_flight.sum()} were in "
            f"flight on them; {len(self.stray)} others failed; all workers back after {seconds} s"
        )


def _named(outcome: Outcome, numbers: np.ndarray) -> str:
    """Return the first failed requests as text: number, kind of failure, and time due."""
    text = ", ".join(
        f"request {number} ({kind_of(outcome.status[number])}, due at {outcome.due[number]:.2f} s)"
        for number in numbers[:_NAMED].tolist()
    )
    return f"{text} and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else text


def reload_under_load(
    service: Service,
    requests: Sequence[bytes],
    sessions: Sessions,
    traffic: Traffic,
    folders: Sequence[Path],
    count: int,
    k: int,
) -> Reloads:
    """Replace the served bundle `count` times during a load, evenly after its ramp.

    requests: for `sessions`, the k best each. folders: the bundles, published in turn; the service starts with the
    last one. Every answer is compared with the offline ranking of the version that it names.
    """
    moments: list[float] = []

    def swap(began: float) -> None:
        for number in range(count):
            _sleep_to(began, traffic, number, count)
            publish(folders[number % len(folders)], service.bundle)
            moments.append(time.monotonic())

    measured = measure(service, requests, traffic, 1.0, swap)
    outcome = measured.outcome
    answers = {number: parse_answer(data) for number, data in outcome.kept.items() if outcome.status[number] == 200}
    versions = Versions.of(folders, sessions.slice(0, len(outcome.due)), k)
    errors = [error for number, answer in answers.items() if (error := versions.error(number, answer)) is not None]
    names = [current_version(folder) for folder in folders]
    seen = 0
    for reload, (begin, end) in enumerate(zip(moments, [*moments[1:], np.inf], strict=True)):
        numbers = np.flatnonzero((outcome.sent >= begin) & (outcome.sent < end)).tolist()
        seen += any(number in answers and answers[number].version == names[reload % len(names)] for number in numbers)
    return Reloads(measured, count, seen, len(answers), len(errors), errors[0] if errors else None)


def _sleep_to(began: float, traffic: Traffic, number: int, count: int) -> None:
    """Sleep until event `number` of `count`; the events are evenly spaced in the time at the full rate."""
    moment = began + traffic.ramp + traffic.steady * (number + 0.5) / (count + 0.5)
    time.sleep(max(0.0, moment - time.monotonic()))


def kill_under_load(service: Service, requests: Sequence[bytes], traffic: Traffic, count: int) -> Kills:
    """Kill a worker `count` times during a load, evenly after its ramp, each after the one before was replaced."""
    kills: list[tuple[float, np.ndarray]] = []
    recovered: list[float] = []

    def kill(began: float) -> None:
        for number in range(count):
            _sleep_to(began, traffic, number, count)
            victim = service.workers()[number % service.n_workers]
            ports = [connection.raddr.port for connection in victim.net_connections("tcp") if connection.raddr]
            service.cpu_seconds()  # while the victim still reports its time
            kills.append((time.monotonic(), np.array(ports)))
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait(10)
            service.wait_until_ready(60)
            recovered.append(time.monotonic() - kills[-1][0])

    measured = measure(service, requests, traffic, 0.0, kill)
    return Kills(measured, in_flight(measured.outcome, kills), recovered)


def in_flight(outcome: Outcome, kills: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return which requests were on a connection to a killed worker and not answered: bool[n].

    kills: time of each, on the clock of `outcome`, and the client's ports that were connected to the worker.
    """
    affected = np.zeros(len(outcome.status), dtype=bool)
    for moment, ports in kills:
        during = (outcome.sent <= moment + NOTICE) & (outcome.done >= moment)
        affected |= during & np.isin(outcome.port, ports)
    return affected
