"""Replicas and deployments while a cluster keeps them waiting, tested without a cluster."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.integrations import ray_serve
from mtaw_fast.integrations.ray_serve import Health, ReplicaError, Scaling, _Wait, _within, deploy
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
