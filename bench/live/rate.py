"""Rankings over HTTP with and without events beside them, from one client: pairs of loads, by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.live.asking import Asking, post, until
from bench.live.inputs import Shop, external, portions, queries, stream
from bench.serving.arrivals import poisson_arrivals
from bench.serving.http_client import Load
from bench.serving.load_process import RunningLoad
from bench.serving.service_process import Service
from mtaw_fast.errors import MtawError
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender

K = 20
_ASKED, _CHECKED = 20_000, 100  # rankings
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """A load: rankings and events a second, events a request, seconds of the ramp and after it, connections."""

    rankings: float
    events: float
    batch: int
    ramp: float
    steady: float
    connections: int = 64


@dataclass(slots=True)
class Pairs:
    """What loads without events and with them gave, a pair a place. Latencies in ms after the ramp.

    taught: ms until a request of events was acknowledged. cpu_*: seconds of the service's processor time, a load.
    """

    without: list[np.ndarray] = field(default_factory=list)
    along: list[np.ndarray] = field(default_factory=list)
    taught: list[np.ndarray] = field(default_factory=list)
    cpu_without: list[float] = field(default_factory=list)
    cpu_along: list[float] = field(default_factory=list)
    errors: int = 0
    events: int = 0
    checked: int = 0

    @property
    def ratios(self) -> np.ndarray:
        """p90 with events over p90 without, a pair."""
        return np.array([p90(along) / p90(without) for along, without in zip(self.along, self.without, strict=True)])


def p90(latencies: np.ndarray) -> float:
    """The smallest that at least 90% do not exceed."""
    return float(np.percentile(latencies, 90, method="inverted_cdf"))


def pairs(
    made: Shop, bundle: Path, work: Path, pace: Pace, count: int, workers: int, say: Callable[[str], None]
) -> Pairs:
    """`count` pairs of loads on a service that does not learn and on one that does.

    Raises
    ------
    MtawError
        Where an acknowledged event was not learned, or the service then ranks otherwise than a fresh process that
        reads the same log.
    """
    found, learned = Pairs(), work / "learned"
    wanted = int(pace.events * (pace.ramp + pace.steady) * 1.3) + pace.batch
    asked = external(queries(made.later, _ASKED))
    asking = [post("/v1/recommend", {"session": session, "k": K}) for session in asked]
    with (
        Service(bundle, work / "plain.log", workers) as plain,
        Service(bundle, work / "learning.log", workers, ["--learn", str(learned)]) as learning,
    ):
        for number in range(count):
            say(f"pair {number + 1} of {count}")
            clicks = stream(made.later, wanted, seed=number).clicks(f"p{number}-")
            teaching = [
                post("/v1/events", {"events": [{"session": one.session, "item": one.item} for one in some]})
                for some in portions(clicks, pace.batch)
            ]
            turns = [(plain, []), (learning, teaching)]
            for service, bodies in turns if number % 2 == 0 else reversed(turns):
                _load(found, service, asking, bodies, pace, number)
        found.checked = _check(found, learning, bundle, learned, asked)
    return found


def _load(
    found: Pairs, service: Service, asking: Sequence[bytes], teaching: Sequence[bytes], pace: Pace, seed: int
) -> None:
    """Put one load on a service and keep what came of it."""
    due = poisson_arrivals(pace.rankings, pace.ramp, pace.steady, seed)
    requests = [asking[place % len(asking)] for place in range(len(due))]
    teaches = np.zeros(len(due), dtype=bool)
    if teaching:
        taught = poisson_arrivals(pace.events / pace.batch, pace.ramp, pace.steady, seed + 1000)[: len(teaching)]
        requests, due = [*requests, *teaching[: len(taught)]], np.concatenate([due, taught])
        teaches = np.concatenate([teaches, np.ones(len(taught), dtype=bool)])
    order = np.argsort(due, kind="stable")
    load = Load(service.address, [requests[place] for place in order], due[order], connections=pace.connections)
    before = service.cpu_seconds()
    with RunningLoad(load) as running:
        outcome = running.result()
    cpu = service.cpu_seconds() - before
    found.errors += int((outcome.status != 200).sum())
    latencies, teaches = outcome.latency * 1e3, teaches[order]
    counted = (outcome.status == 200) & (outcome.due >= pace.ramp)
    if not teaching:
        found.without.append(latencies[counted & ~teaches])
        found.cpu_without.append(cpu)
        return
    found.along.append(latencies[counted & ~teaches])
    found.cpu_along.append(cpu)
    found.taught.append(latencies[counted & teaches])
    found.events += pace.batch * int((outcome.status[teaches] == 200).sum())


def _check(found: Pairs, service: Service, bundle: Path, learned: Path, asked: Sequence[Sequence[int]]) -> int:
    """Compare the service with a process that reads its log; returns how many rankings were compared."""
    fresh = Recommender.load(bundle, learn=LearningSettings(learned, compact=False), verify=False)
    try:
        assert fresh.log_position is not None
        taken = fresh.bundle.model.log_progress
        event_processor = fresh.learner.state.event_processor if fresh.learner is not None else None
        assert event_processor is not None
        if taken is None and event_processor.learned_clicks != found.events:
            raise MtawError(f"rate: {found.events} events were acknowledged, {event_processor.learned_clicks} learned")
        end = fresh.log_position
        with Asking(service) as asking:
            until(
                lambda: asking.recommend(asked[0], K)["log_position"] >= end,
                "rate: the service did not learn its own log",
                _PATIENCE,
            )
            same = [
                asking.recommend(session, K)["items"] == fresh.recommend(session, K).items
                for session in asked[:_CHECKED]
            ]
        if not all(same):
            raise MtawError(f"rate: {same.count(False)} of {len(same)} rankings differ from those of a fresh process")
        return len(same)
    finally:
        fresh.close()
