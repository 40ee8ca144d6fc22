"""The time from events sent to one worker until another worker ranks with them, alone and among other events."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.live.inputs import Shop, portions, stream
from bench.live.service_client import ServiceClient, post, until
from bench.serving.http_client import Load
from bench.serving.load_process import RunningLoad
from bench.serving.service_process import Service
from bench.serving.traffic import poisson_arrivals
from mtaw_fast.errors import MtawError

K = 20
_VISITORS = 10  # who click the same pair of items
_PATIENCE = 10.0
_LOAD_TIMEOUT = 60.0  # of a service that refuses most of the load
_RAMP, _BATCH, _CONNECTIONS = 0.1, 20, 16  # of the seconds; events a request; connections of the load


def freshness(shop: Shop, bundle: Path, work: Path, trials: int, seed: int = 0) -> np.ndarray:
    """Measure the seconds from POST /v1/events until another worker ranks with the events: float64[trials].

    In each trial some visitors click two items. The other worker ranks with these clicks as soon as the second item is
    in its top 20 for the first one.

    Raises
    ------
    MtawError
        If that takes too long, or the second item is in the top 20 before.
    """
    rng = np.random.default_rng(seed)
    # Items with few past clicks, so that a few visitors matter.
    rare = rng.permutation(np.argsort(shop.model.popularity, kind="stable")[: shop.model.n_items // 2])
    delays = np.empty(trials)
    with Service(bundle, work / "service.log", 2, ["--learn", str(work / "learned")]) as service:
        first, second = sorted(service.worker_pids())
        with ServiceClient(service, first) as writer, ServiceClient(service, second) as reader:
            for trial in range(trials):
                first_item, second_item = (rare[2 * trial : 2 * trial + 2] + 1).tolist()
                if second_item in reader.recommend([first_item], K)["items"]:
                    raise MtawError(
                        f"fresh: item {second_item} is in the top {K} of {first_item} before anybody clicked them"
                    )
                visits = [f"t{trial}-{visitor}" for visitor in range(_VISITORS)]
                events = [{"session": name, "item": item} for name in visits for item in (first_item, second_item)]
                begin = time.perf_counter()
                writer.request("POST", "/v1/events", {"events": events})
                until(
                    lambda: second_item in reader.recommend([first_item], K)["items"],  # noqa: B023 (called at once)
                    f"fresh: item {second_item} did not come into the top {K} of {first_item}",
                    _PATIENCE,
                )
                delays[trial] = time.perf_counter() - begin
    return delays


@dataclass(frozen=True, slots=True, eq=False)
class FreshnessAtRate:
    """The freshness under a load of events.

    taken: float64[..], seconds until another worker knew an event. accepted, refused: events of the load per second.
    """

    taken: np.ndarray
    accepted: float
    refused: float


def freshness_at(shop: Shop, bundle: Path, work: Path, rate: float, seconds: float, seed: int = 0) -> FreshnessAtRate:
    """Measure freshness while a load sends `rate` events a second, of which the service may refuse some.

    An event counts from when it is sent, in the request that was accepted, until the ranking of another worker has a
    `log_position` that includes it.

    Raises
    ------
    MtawError
        If that takes over 10 s, or the load is answered with anything but 200 and 503.
    """
    clicks = stream(shop.later, int(rate * seconds) + _BATCH, seed).clicks("load-")
    bodies = [
        post("/v1/events", {"events": [{"session": click.session, "item": click.item} for click in portion]})
        for portion in portions(clicks, _BATCH)
    ]
    ramp = _RAMP * seconds
    due = poisson_arrivals(rate / _BATCH, ramp, seconds - ramp, seed)[: len(bodies)]
    delays: list[float] = []
    with Service(bundle, work / "service.log", 2, ["--learn", str(work / "learned")]) as service:
        first, second = sorted(service.worker_pids())
        with ServiceClient(service, first) as writer, ServiceClient(service, second) as reader:
            load = Load(service.address, bodies[: len(due)], due, connections=_CONNECTIONS, timeout=_LOAD_TIMEOUT)
            with RunningLoad(load) as running:
                while time.monotonic() < running.began + ramp:
                    time.sleep(0.01)
                while time.monotonic() < running.began + seconds:
                    event = {"events": [{"session": f"probe-{len(delays)}", "item": 1}]}
                    begin = time.perf_counter()
                    try:
                        position = writer.request("POST", "/v1/events", event)["log_position"]
                    except MtawError as error:
                        if "status 503" not in str(error):
                            raise
                        time.sleep(0.05)
                        continue
                    until(
                        lambda: reader.recommend([1], K)["log_position"] >= position,  # noqa: B023 (called at once)
                        f"fresh: at {rate:g} events/s another worker did not know an event",
                        _PATIENCE,
                    )
                    delays.append(time.perf_counter() - begin)
                outcome = running.result()
    unexpected = set(outcome.status.tolist()) - {200, 503}
    if unexpected or not delays:
        raise MtawError(f"fresh: at {rate:g} events/s requests were answered with {unexpected or 503}")
    spent = float(np.nanmax(outcome.done)) - outcome.began
    accepted, refused = (_BATCH * int((outcome.status == status).sum()) / spent for status in (200, 503))
    return FreshnessAtRate(np.array(delays), accepted, refused)
