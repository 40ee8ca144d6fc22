"""What replicas and whoever deploys them do while a cluster keeps them waiting, without one."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.integrations import replica
from mtaw_fast.integrations.ray_serve import _Wait, _within
from mtaw_fast.integrations.replica import Replica
from mtaw_fast.integrations.roster import Others, Report


class LostError(Exception):
    """Stands for Ray's error of an actor that does not answer."""


class Away:
    """A roster whose actor has died."""

    def __init__(self) -> None:
        self.exchange = SimpleNamespace(remote=self._exchange)

    async def _exchange(self, report: Report) -> Others:
        raise LostError(report.replica)


class Here(Away):
    """A roster that answers."""

    async def _exchange(self, report: Report) -> Others:
        return Others((7,), (report.version,))


def reporting(roster: Away) -> Any:
    """What a replica reports by: its service idle, its roster the given one."""
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
        _roster=roster,
        _replica="r1",
        _name="shop",
    )  # fmt: skip


def test_what_a_roster_last_told_holds_while_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    one = reporting(Away())
    monkeypatch.setattr(replica, "roster_of", lambda ray, name: Here())

    asyncio.run(Replica._report(one))
    assert one._counters.others == Others((5,), ("v0",))

    asyncio.run(Replica._report(one))
    assert one._counters.others == Others((7,), ("v1",)), "the next report does not go to the new roster"


def test_a_head_that_is_away_too_does_not_end_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(ray: Any, name: str) -> Any:
        raise ConnectionError("no head")

    first = Away()
    one = reporting(first)
    monkeypatch.setattr(replica, "roster_of", nowhere)
    for _ in range(2):
        asyncio.run(Replica._report(one))
    assert one._roster is first
    assert one._counters.others == Others((5,), ("v0",))


def test_work_that_would_wait_for_ever_ends_with_the_patience() -> None:
    never = threading.Event()
    try:
        with pytest.raises(TimeoutError, match="not all within 0 s"):
            _within(_Wait(time.monotonic(), "not all within 0 s", None), never.wait)
    finally:
        never.set()


def test_whoever_stops_the_waiting_is_told_so_before_the_patience_ends() -> None:
    never, stop = threading.Event(), threading.Event()
    threading.Timer(0.05, stop.set).start()
    try:
        with pytest.raises(TimeoutError, match="it was stopped"):
            _within(_Wait(time.monotonic() + 60, "late", stop), never.wait)
    finally:
        never.set()


def test_what_the_work_raises_comes_through() -> None:
    def fails() -> None:
        raise ValueError("no such bundle")

    with pytest.raises(ValueError, match="no such bundle"):
        _within(_Wait(time.monotonic() + 60, "late", None), fails)
