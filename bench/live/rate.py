"""Rankings over HTTP with and without events at the same time: pairs of loads from one client, in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.live.inputs import ALL, ALL_LEARNED, Shop, external, portions, queries, stream
from bench.live.service_client import ServiceClient, post, until
from bench.serving.http_client import Load
from bench.serving.load_process import RunningLoad
from bench.serving.service_process import Service
from bench.serving.traffic import poisson_arrivals
from mtaw_fast.errors import MtawError
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender

K = 20
_SESSIONS, _CHECKED = 20_000, 100  # ranked in turn, and compared at the end
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """A load: rankings and events per second, events per request, seconds of the ramp and after it, connections."""

    rankings: float
    events: float
    batch: int
    ramp: float
    steady: float
    connections: int = 64


@dataclass(slots=True)
class Pairs:
    """The results of loads without and with events, one entry per pair. Latencies in ms after the ramp.

    event_latencies: ms until a request of events was acknowledged. cpu_*: seconds of the service's processor time.
    """

    without: list[np.ndarray] = field(default_factory=list)
    with_events: list[np.ndarray] = field(default_factory=list)
    event_latencies: list[np.ndarray] = field(default_factory=list)
    cpu_without: list[float] = field(default_factory=list)
    cpu_with_events: list[float] = field(default_factory=list)
    errors: int = 0
    events: int = 0
    checked: int = 0

    @property
    def ratios(self) -> np.ndarray:
        """The p90 with events divided by the p90 without, for each pair."""
        return np.array(
            [
                p90(with_events) / p90(without)
                for with_events, without in zip(self.with_events, self.without, strict=True)
            ]
        )


def p90(latencies: np.ndarray) -> float:
    """Return the smallest latency that at least 90% do not exceed."""
    return float(np.percentile(latencies, 90, method="inverted_cdf"))


def pairs(
    shop: Shop, bundle: Path, work: Path, pace: Pace, count: int, workers: int, say: Callable[[str], None]
) -> Pairs:
    """Run `count` pairs of loads on a service that does not learn and on one that does.

    Raises
    ------
    MtawError
        If an acknowledged event was not learned, or the service then ranks differently from a fresh process that reads
        the same log.
    """
    results, learned = Pairs(), work / "learned"
    n_events = int(pace.events * (pace.ramp + pace.steady) * 1.3) + pace.batch
    sessions = external(queries(shop.later, _SESSIONS))
    rankings = [post("/v1/recommend", {"session": session, "k": K}) for session in sessions]
    with (
        Service(bundle, work / "plain.log", workers) as plain,
        Service(bundle, work / "learning.log", workers, ["--learn", str(learned), *ALL_LEARNED]) as learning,
    ):
        for number in range(count):
            say(f"pair {number + 1} of {count}")
            clicks = stream(shop.later, n_events, seed=number).clicks(f"p{number}-")
            events = [
                post("/v1/events", {"events": [{"session": click.session, "item": click.item} for click in portion]})
                for portion in portions(clicks, pace.batch)
            ]
            turns = [(plain, []), (learning, events)]
            for service, bodies in turns if number % 2 == 0 else reversed(turns):
                _load(results, service, rankings, bodies, pace, number)
        results.checked = _check(results, learning, bundle, learned, sessions)
    return results


def _load(
    found: Pairs, service: Service, rankings: Sequence[bytes], events: Sequence[bytes], pace: Pace, seed: int
) -> None:
    """Put one load on a service and store its results."""
    due = poisson_arrivals(pace.rankings, pace.ramp, pace.steady, seed)
    requests = [rankings[number % len(rankings)] for number in range(len(due))]
    is_event = np.zeros(len(due), dtype=bool)
    if events:
        event_times = poisson_arrivals(pace.events / pace.batch, pace.ramp, pace.steady, seed + 1000)[: len(events)]
        requests, due = [*requests, *events[: len(event_times)]], np.concatenate([due, event_times])
        is_event = np.concatenate([is_event, np.ones(len(event_times), dtype=bool)])
    order = np.argsort(due, kind="stable")
    load = Load(service.address, [requests[number] for number in order], due[order], connections=pace.connections)
    cpu_before = service.cpu_seconds()
    with RunningLoad(load) as running:
        outcome = running.result()
    cpu = service.cpu_seconds() - cpu_before
    found.errors += int((outcome.status != 200).sum())
    latencies, is_event = outcome.latency * 1e3, is_event[order]
    counted = (outcome.status == 200) & (outcome.due >= pace.ramp)
    if not events:
        found.without.append(latencies[counted & ~is_event])
        found.cpu_without.append(cpu)
        return
    found.with_events.append(latencies[counted & ~is_event])
    found.cpu_with_events.append(cpu)
    found.event_latencies.append(latencies[counted & is_event])
    found.events += pace.batch * int((outcome.status[is_event] == 200).sum())


def _check(found: Pairs, service: Service, bundle: Path, learned: Path, sessions: Sequence[Sequence[int]]) -> int:
    """Compare the service with a process that reads its log; return the number of rankings compared."""
    fresh = Recommender.load(bundle, learn=LearningSettings(learned, compact=False, limits=ALL), verify=False)
    try:
        assert fresh.log_position is not None
        progress = fresh.bundle.model.log_progress
        event_processor = fresh.learner.state.event_processor if fresh.learner is not None else None
        assert event_processor is not None
        if progress is None and event_processor.learned_clicks != found.events:
            raise MtawError(f"rate: {found.events} events were acknowledged, {event_processor.learned_clicks} learned")
        end = fresh.log_position
        with ServiceClient(service) as client:
            until(
                lambda: client.recommend(sessions[0], K)["log_position"] >= end,
                "rate: the service did not learn its own log",
                _PATIENCE,
            )
            same = [
                client.recommend(session, K)["items"] == fresh.recommend(session, K).items
                for session in sessions[:_CHECKED]
            ]
        if not all(same):
            raise MtawError(f"rate: {same.count(False)} of {len(same)} rankings differ from those of a fresh process")
        return len(same)
    finally:
        fresh.close()
