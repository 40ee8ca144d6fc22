"""What feedback and watching cost a request: processor time of the worker's own code, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.service.app import make_service
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.json_codec import encoded
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.ranking_ids import new_id
from mtaw_fast.service.routes.feedback import _fresh
from mtaw_fast.service.routes.requests import FeedbackRequest
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import load_snapshot, signature
from mtaw_fast.service.state import Service

_AT_ONCE = 32  # requests between two turns of the event loop, as under load
_TICK = 250  # rankings between two ticks: 1,000 a second


def costs(bundle: Path, folder: Path, n: int, rounds: int = 5) -> dict[str, float]:
    """Return microseconds of processor time a request, the median of the rounds.

    record: the record of a ranking. watch: what is counted of it. shown, clicked: feedback on 20 items, and on one.
    Threads that write files are included; the harness and the ids of rankings are not.
    """
    return asyncio.run(_costs(bundle, folder, n, rounds))


async def _costs(bundle: Path, folder: Path, n: int, rounds: int) -> dict[str, float]:
    settings = Settings(bundle, feedback=f"{folder}/")
    snapshot = load_snapshot(bundle, "auto", "auto")
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    service = make_service(settings, Reloader(settings, snapshot, signature(bundle), metrics), metrics)
    store = service.feedback
    assert store is not None
    ids, sessions = snapshot.recommender.ids, snapshot.recommender.bundle.model.sessions
    rng = np.random.default_rng(0)
    visits = [ids.external(sessions[int(rng.integers(len(sessions)))]) for _ in range(200)]
    lists = [ids.external(rng.integers(0, len(ids), 20).astype(np.int32)) for _ in range(200)]

    async def record(number: int) -> None:
        name = new_id(snapshot.version, f"s-{number}")
        service.recorder.record(snapshot, "recommend", f"s-{number}", name, lists[number % 200])

    async def watch(number: int) -> None:
        visit = visits[number % 200]
        service.watch.ranked(snapshot, f"s-{number // 3}", visit[: 1 + number % 3], lists[number % 200])
        if number % _TICK == 0:
            service.watch.tick()

    async def shown(number: int) -> None:
        items: Any = lists[number % 200]
        await _report(service, FeedbackRequest(recommendation=new_id(snapshot.version), shown=items))

    async def clicked(number: int) -> None:
        items: Any = lists[number % 200][:1]
        await _report(service, FeedbackRequest(recommendation=new_id(snapshot.version), clicked=items))

    async def nothing(_: int) -> None:
        new_id(snapshot.version)

    microseconds = {}
    for name, work in (
        ("nothing", nothing),
        ("record", record),
        ("watch", watch),
        ("shown", shown),
        ("clicked", clicked),
    ):
        times = []
        for turn in range(rounds):
            begin = time.process_time()
            await _run(work, n, turn * n)
            await asyncio.sleep(0.3)  # the rankings that wait are written
            times.append((time.process_time() - begin) / n * 1e6)
        microseconds[name] = float(np.median(times))
    harness = microseconds.pop("nothing")
    microseconds = {name: value - harness for name, value in microseconds.items()}
    await store.close()
    snapshot.recommender.close()
    return microseconds


async def _run(work: Callable[[int], Awaitable[None]], n: int, first: int) -> None:
    for begin in range(first, first + n, _AT_ONCE):
        await asyncio.gather(*(work(number) for number in range(begin, begin + _AT_ONCE)))


async def _report(service: Service, data: FeedbackRequest) -> None:
    """Do what the route of feedback does after the body was decoded."""
    lines, counts, marks = _fresh(service, data, data.recommendation[:16])
    assert service.feedback is not None
    await service.feedback.keep([encoded(line) for line in lines])
    service.reports.count(marks)
    service.metrics.count_first_by_version(data.recommendation[:16], counts)
