"""Replicas and deployments while a cluster keeps them waiting, tested without a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.integrations import ray_serve, replica, replica_command
from mtaw_fast.integrations import replica_registry as registry
from mtaw_fast.integrations.cluster import HERE
from mtaw_fast.integrations.ray_serve import Health, ReplicaError, Scaling, StoppedError, _Wait, _within, deploy
from mtaw_fast.integrations.replica import Replica
from mtaw_fast.integrations.replica_registry import Others, ReplicaRegistry, Report
from mtaw_fast.service.observability.counters import KINDS
from mtaw_fast.service.observability.metrics import GAUGES, WIDTH
from mtaw_fast.service.settings import Settings


class LostError(Exception):
    """Stands for Ray's error of an actor that does not answer."""


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
    one = reporting(Away())
    monkeypatch.setattr(replica, "registry_of", lambda ray, name: Here())

    asyncio.run(Replica._report(one))
    assert one._counters.others == Others((5,), ("v0",))

    asyncio.run(Replica._report(one))
    assert one._counters.others == Others((7,), ("v1",)), "the next report does not go to the new registry"


def test_a_head_that_is_away_too_does_not_end_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(ray: Any, name: str) -> Any:
        raise ConnectionError("no head")

    first = Away()
    one = reporting(first)
    monkeypatch.setattr(replica, "registry_of", nowhere)
    for _ in range(2):
        asyncio.run(Replica._report(one))
    assert one._registry is first
    assert one._counters.others == Others((5,), ("v0",))


@pytest.mark.parametrize("place", ["gauge", "exchange"])
def test_reports_go_on_after_any_error_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    one, calls = reporting(Here()), 0

    def failing(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise ValueError("no such thing")

    async def exchange(report: Report) -> Others:
        failing()
        return Others((7,), (report.version,))

    async def until_reported() -> None:
        reports = asyncio.create_task(Replica._report_on(one))
        while one._counters.others != Others((7,), ("v1",)) and not reports.done():
            await asyncio.sleep(0)
        reports.cancel()

    monkeypatch.setattr(replica, "PERIOD", 0.0)
    one._report = lambda: Replica._report(one)
    if place == "gauge":
        one._service.gauge = failing
    else:
        one._registry.exchange.remote = exchange
    asyncio.run(until_reported())
    assert one._counters.others == Others((7,), ("v1",)), "the reports have ended"
    logged = [record for record in caplog.records if record.getMessage() == "report_failed"]
    assert [record.fields for record in logged] == [{"reason": "ValueError: no such thing"}]


def report(replica: str, count: int) -> Report:
    """Of a replica that counted so many of everything."""
    version = "1" * 16
    return Report(replica, "box", 1, version, 0, (count,) * WIDTH, {version: [count] * len(KINDS)})


def test_a_replica_that_was_silent_for_hours_is_counted_once_when_it_comes_back() -> None:
    clock, cell = [0.0], next(cell for cell in range(WIDTH) if cell not in GAUGES)
    one = ReplicaRegistry(lambda: clock[0])
    one.exchange(report("a", 5))
    clock[0] = 10_000.0
    for count in (5, 7):
        answer = one.exchange(report("b", 1))
        assert (answer.counts[cell], [*answer.by_version.values()]) == (count, [[count] * len(KINDS)])
        one.exchange(report("a", 7))
    clock[0] = 20_000.0
    assert one.exchange(report("b", 1)).counts[cell] == 7, "it is gone again"
    assert one.exchange(report("a", 9)).counts[cell] == 1, "its own counts are in the answer"


def test_of_those_that_are_gone_a_bounded_number_is_known_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, cell = [0.0], next(cell for cell in range(WIDTH) if cell not in GAUGES)
    monkeypatch.setattr(registry, "_MOST_FOLDED", 3)
    one = ReplicaRegistry(lambda: clock[0])
    for number in range(10):
        clock[0] += 10_000.0
        answer = one.exchange(report(f"r{number}", 1))
    assert answer.counts[cell] == 9
    assert [*one._folded] == ["r6", "r7", "r8"]


def test_work_that_would_wait_for_ever_ends_with_the_patience() -> None:
    never = threading.Event()
    try:
        with pytest.raises(TimeoutError, match="not all within 0 s"):
            _within(_Wait(time.monotonic(), "not all within 0 s", None), never.wait)
    finally:
        never.set()


def test_a_stop_ends_the_waiting_before_the_patience() -> None:
    never, stop = threading.Event(), threading.Event()
    threading.Timer(0.05, stop.set).start()
    try:
        with pytest.raises(TimeoutError, match="it was stopped"):
            _within(_Wait(time.monotonic() + 60, "late", stop), never.wait)
    finally:
        never.set()


class Serve:
    """A Ray Serve that lists a deployment only from the second check on, and never gets it to run."""

    exceptions = SimpleNamespace(RayServeException=LostError)

    def __init__(self) -> None:
        self.applications: dict[str, Any] = {}
        self.looks, self.looked, self.never = 0, threading.Event(), threading.Event()
        self.running: threading.Thread | None = None

    def start(self, **_: Any) -> None:
        """See Ray Serve."""

    def run(self, application: Any, *, name: str, route_prefix: str) -> None:
        """See Ray Serve."""
        self.running = threading.current_thread()
        self.looked.wait()
        self.applications[name] = SimpleNamespace(deployments={})
        self.never.wait()

    def status(self) -> Any:
        """See Ray Serve."""
        self.looks += self.running is not None
        if self.looks > 1:
            self.looked.set()
        return SimpleNamespace(applications=dict(self.applications))

    def delete(self, name: str) -> None:
        """See Ray Serve."""
        self.applications.pop(name, None)
        self.looked.set()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    one = Serve()
    monkeypatch.setattr(ray_serve, "connected", lambda: None)
    monkeypatch.setattr(ray_serve, "require", lambda module, extra: one)
    monkeypatch.setattr(ray_serve, "registry_of", lambda ray, name: None)
    monkeypatch.setattr(ray_serve, "current_version", lambda bundle: "1" * 16)
    for name in ("_check", "_check_address", "_application"):
        monkeypatch.setattr(ray_serve, name, lambda *_: None)
    yield one
    one.looked.set()
    one.never.set()


@pytest.mark.parametrize("ending", ["late", "stopped"])
def test_a_deployment_that_is_given_up_before_it_reaches_the_cluster_does_not_come_up(
    serve: Serve, ending: str
) -> None:
    stop = threading.Event()
    if ending == "stopped":
        stop.set()
    expected = StoppedError if ending == "stopped" else ReplicaError
    with pytest.raises(ReplicaError, match=r"(stopped before|not) all replicas served") as caught:
        deploy(Settings(Path("shop.bundle")), patience=60.0 if ending == "stopped" else 0.0, stop=stop)
    assert type(caught.value) is expected
    assert serve.running is not None
    serve.never.set()
    serve.running.join()
    assert serve.applications == {}


def test_replicas_that_take_long_to_end_do_not_hide_why_they_are_to(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(name: str) -> None:
        Serve.delete(serve, name)
        raise TimeoutError("not deleted after 60s")

    monkeypatch.setattr(serve, "delete", delete)
    with pytest.raises(ReplicaError, match="could not be deployed: not all replicas served"):
        deploy(Settings(Path("shop.bundle")), patience=0.0)
    assert serve.applications == {}


def test_a_first_deployment_of_which_nothing_is_heard_is_taken_back(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(application: Any, *, name: str, route_prefix: str) -> None:
        states = SimpleNamespace(message="", replica_states={"RUNNING": 1})
        serve.applications[name] = SimpleNamespace(deployments={"recommender": states})

    monkeypatch.setattr(serve, "run", run)
    monkeypatch.setattr(ray_serve, "_health", lambda *_: Health("RUNNING", ()))
    for first in (True, False):
        if not first:
            run(None, name="mtaw-fast", route_prefix="/")
        with pytest.raises(ReplicaError, match="the deployment is RUNNING with 0 replicas"):
            deploy(Settings(Path("shop.bundle")), patience=0.5)
        assert not serve.applications if first else serve.applications


def test_a_deployment_that_may_come_up_yet_is_named(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_serve, "_ARRIVES", -1.0)
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications={}))
    with pytest.raises(ReplicaError, match="it may still start: check 'serve status'"):
        deploy(Settings(Path("shop.bundle")), patience=0.0)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `serve_replicas` logs, without a Ray."""
    events: list[str] = []
    monkeypatch.setattr(replica_command, "find_ray", lambda address: None)
    monkeypatch.setattr(replica_command, "require", lambda module, extra: None)
    monkeypatch.setattr(replica_command, "configure_logging", lambda: None)
    monkeypatch.setattr(replica_command, "signature", lambda bundle: object())  # another bundle at every look
    monkeypatch.setattr(replica_command, "cluster", lambda address, cpus: contextlib.nullcontext())
    monkeypatch.setattr(replica_command, "undeploy", lambda: events.append("undeployed"))
    monkeypatch.setattr(replica_command, "log_event", lambda event, **fields: events.append(event))
    monkeypatch.setattr(logging, "captureWarnings", lambda capture: None)
    return events


def stopping_after(deployments: int) -> Callable[..., str]:
    left = deployments

    def deploy(settings: Settings, scaling: Scaling, *, stop: threading.Event) -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            return "1" * 16
        stop.set()
        raise StoppedError("it was stopped")

    return deploy


def test_a_stop_while_it_deploys_is_no_error_of_a_service(stopped: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(Path("shop.bundle"), reload_interval=0.001)
    monkeypatch.setattr(replica_command, "deploy", stopping_after(0))
    replica_command.serve_replicas(settings, Scaling(), HERE)
    assert stopped == ["stopped"]
    with pytest.raises(StoppedError):
        replica_command.serve_replicas(settings, Scaling(), "head:6379")
    stopped.clear()
    monkeypatch.setattr(replica_command, "deploy", stopping_after(2))
    replica_command.serve_replicas(settings, Scaling(), HERE)
    assert stopped == ["ready", "rolled", "roll_stopped", "undeployed", "stopped"]


def test_what_the_work_raises_comes_through() -> None:
    def fails() -> None:
        raise ValueError("no such bundle")

    with pytest.raises(ValueError, match="no such bundle"):
        _within(_Wait(time.monotonic() + 60, "late", None), fails)
