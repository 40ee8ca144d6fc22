"""Deployments while a cluster keeps them waiting, and the command that makes them, without a cluster."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.integrations import ray_serve, replica_command
from mtaw_fast.integrations.cluster import HERE
from mtaw_fast.integrations.ray_serve import Health, ReplicaError, Scaling, StoppedError, _Wait, _within, deploy
from mtaw_fast.service.settings import Settings
from tests.support.integrations.fake_ray import Serve


def test_work_that_would_wait_for_ever_ends_with_the_patience() -> None:
    never = threading.Event()
    try:
        with pytest.raises(TimeoutError, match="not all within 0 s"):
            _within(_Wait(time.monotonic(), "not all within 0 s", None), never.wait)
    finally:
        never.set()


@pytest.mark.parametrize("processors", [float("inf"), float("nan"), 0.0])
def test_replicas_with_no_number_of_processors_are_refused(processors: float) -> None:
    with pytest.raises(UsageError, match="cpus must be above 0 and finite"):
        Scaling(cpus=processors)


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


@pytest.mark.parametrize(
    ("feedback", "sent"),
    [("kept/", "/shop/kept/"), ("kept.jsonl", "/shop/kept.jsonl"), ("redis://r/0", "redis://r/0"), (None, None)],
)
def test_paths_mean_the_same_to_replicas(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, feedback: str | None, sent: str | None
) -> None:
    bound: list[Settings] = []
    monkeypatch.setattr(ray_serve, "_application", lambda _, settings, *__: bound.append(settings))
    monkeypatch.setattr(Path, "absolute", lambda path: Path("/shop") / path)
    with pytest.raises(ReplicaError):
        deploy(Settings(Path("shop.bundle"), feedback=feedback), patience=0.0)
    assert (bound[0].bundle, bound[0].feedback) == (Path("/shop/shop.bundle"), sent)


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


def test_what_the_work_raises_comes_through() -> None:
    def fails() -> None:
        raise ValueError("no such bundle")

    with pytest.raises(ValueError, match="no such bundle"):
        _within(_Wait(time.monotonic() + 60, "late", None), fails)


def test_a_stop_ends_the_waiting_before_the_patience() -> None:
    never, stop = threading.Event(), threading.Event()
    threading.Timer(0.05, stop.set).start()
    try:
        with pytest.raises(TimeoutError, match="it was stopped"):
            _within(_Wait(time.monotonic() + 60, "late", stop), never.wait)
    finally:
        never.set()


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
    remaining = deployments

    def deploy(settings: Settings, scaling: Scaling, *, stop: threading.Event) -> str:
        nonlocal remaining
        remaining -= 1
        if remaining >= 0:
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


def test_a_signal_while_the_command_begins_to_wait_is_noticed() -> None:
    signals: Any
    with replica_command._signals() as signals:
        stop, look = signals
        with stop._cond, look._cond:  # as inside `stop.wait`
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
        assert stop.wait(20)
        assert look.wait(20)
