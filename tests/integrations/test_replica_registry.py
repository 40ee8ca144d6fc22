"""The registry of replicas: what it keeps while it is away, and replicas that are silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.integrations import replica
from mtaw_fast.integrations import replica_registry as registry
from mtaw_fast.integrations.replica import Replica
from mtaw_fast.integrations.replica_registry import Others, ReplicaCounters, ReplicaRegistry, Report
from mtaw_fast.service.observability.counters import KINDS
from mtaw_fast.service.observability.metrics import DRIFT_CELLS, GAUGES, WIDTH, Metrics
from tests.support.integrations.fake_ray import LostError


class Away:
    """A registry whose actor has died."""

    def __init__(self) -> None:
        self.exchange = SimpleNamespace(remote=self._exchange)

    async def _exchange(self, report: Report) -> Others:
        raise LostError(report.replica)


class Here(Away):
    """A registry that answers."""

    async def _exchange(self, report: Report) -> Others:
        return Others((7,), (report.version,))


def reporting(registry: Away) -> Any:
    """What a replica reports by: its service idle, its registry the given one."""
    return SimpleNamespace(
        _service=SimpleNamespace(
            gauge=lambda: None,
            reloader=SimpleNamespace(snapshot=SimpleNamespace(version="v1")),
            queue=SimpleNamespace(length=0),
        ),
        _counters=SimpleNamespace(
            own_counts=lambda: (3,), own_by_version=dict, others=Others((5,), ("v0",))
        ),
        _ray=SimpleNamespace(exceptions=SimpleNamespace(RayError=LostError)),
        _registry=registry,
        _replica="r1",
        _name="shop",
    )  # fmt: skip


def test_the_last_answer_of_a_registry_stays_while_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = reporting(Away())
    monkeypatch.setattr(replica, "registry_of", lambda ray, name: Here())

    asyncio.run(Replica._report(reporter))
    assert reporter._counters.others == Others((5,), ("v0",))

    asyncio.run(Replica._report(reporter))
    assert reporter._counters.others == Others((7,), ("v1",)), "the next report does not go to the new registry"


def test_a_head_that_is_away_too_does_not_end_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(ray: Any, name: str) -> Any:
        raise ConnectionError("no head")

    first = Away()
    reporter = reporting(first)
    monkeypatch.setattr(replica, "registry_of", nowhere)
    for _ in range(2):
        asyncio.run(Replica._report(reporter))
    assert reporter._registry is first
    assert reporter._counters.others == Others((5,), ("v0",))


@pytest.mark.parametrize("place", ["gauge", "exchange"])
def test_reports_go_on_after_any_error_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    reporter, calls = reporting(Here()), 0

    def failing(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise ValueError("no such thing")

    async def exchange(report: Report) -> Others:
        failing()
        return Others((7,), (report.version,))

    async def until_reported() -> None:
        reports = asyncio.create_task(Replica._report_on(reporter))
        while reporter._counters.others != Others((7,), ("v1",)) and not reports.done():
            await asyncio.sleep(0)
        reports.cancel()

    monkeypatch.setattr(replica, "PERIOD", 0.0)
    reporter._report = lambda: Replica._report(reporter)
    if place == "gauge":
        reporter._service.gauge = failing
    else:
        reporter._registry.exchange.remote = exchange
    asyncio.run(until_reported())
    assert reporter._counters.others == Others((7,), ("v1",)), "the reports have ended"
    logged = [record for record in caplog.records if record.getMessage() == "report_failed"]
    assert [record.fields for record in logged] == [{"reason": "ValueError: no such thing"}]  # type: ignore[attr-defined]


def report(replica: str, count: int) -> Report:
    """Of a replica that counted so many of everything."""
    version = "1" * 16
    return Report(replica, "box", 1, version, 0, (count,) * WIDTH, {version: [count] * len(KINDS)})


def test_a_replica_that_was_silent_for_hours_is_counted_once_when_it_comes_back() -> None:
    clock, cell = [0.0], next(cell for cell in range(WIDTH) if cell not in GAUGES)
    replica_registry = ReplicaRegistry(lambda: clock[0])
    replica_registry.exchange(report("a", 5))
    clock[0] = 10_000.0
    for count in (5, 7):
        answer = replica_registry.exchange(report("b", 1))
        assert (answer.counts[cell], [*answer.by_version.values()]) == (count, [[count] * len(KINDS)])
        replica_registry.exchange(report("a", 7))
    clock[0] = 20_000.0
    assert replica_registry.exchange(report("b", 1)).counts[cell] == 7, "it is gone again"
    assert replica_registry.exchange(report("a", 9)).counts[cell] == 1, "its own counts are in the answer"


def test_of_those_that_are_gone_a_bounded_number_is_known_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cell = [0.0], next(cell for cell in range(WIDTH) if cell not in GAUGES)
    monkeypatch.setattr(registry, "_MAX_FOLDED", 3)
    replica_registry = ReplicaRegistry(lambda: clock[0])
    for number in range(10):
        clock[0] += 10_000.0
        answer = replica_registry.exchange(report(f"r{number}", 1))
    assert answer.counts[cell] == 9
    assert [*replica_registry._folded] == ["r6", "r7", "r8"]


def test_drift_is_not_added_up_over_replicas() -> None:
    """Each replica measures it on the clicks of all, and a new one has no drift yet but a threshold."""
    registry = ReplicaRegistry()
    replicas = [ReplicaCounters() for _ in range(3)]
    metrics = [Metrics(counters, 0) for counters in replicas]
    for number, worker in enumerate(metrics):
        worker.set("mtaw_drift", DRIFT_CELLS // 4 if number else 0, "length")
        worker.set("mtaw_drift_threshold", DRIFT_CELLS // 5, "length")
        worker.set("mtaw_queue_length", 2)
    for _ in range(2):
        for number, counters in enumerate(replicas):
            report = Report(f"r{number}", "host", number, "v1", 0, counters.own_counts())
            counters.others = registry.exchange(report)
    lines = metrics[1].text().splitlines()
    assert 'mtaw_drift{feature="length"} 0.25' in lines
    assert 'mtaw_drift_threshold{feature="length"} 0.2' in lines
    assert "mtaw_queue_length 6" in lines
