"""A service refuses events while too many are not learned yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.online.log.events import Click, now_ms
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.routes.events import _check_backlog
from tests.support.service.running import Running, eventually, good, running

LAG = "mtaw_learning_lag_events"
MANY = 60_000  # events: a worker learns them in more than a second


@pytest.fixture(scope="module")
def service(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("backlog") / "learned"
    options = ("--learn", str(folder), "--max-backlog", "1000")
    with running(memory_bundle, *options) as service:
        yield service
        service.assert_no_error()


@pytest.fixture
def log(service: Running) -> Iterator[FileLog]:
    """The service's log, as another process writes it."""
    arguments: Any = service.process.args
    log = FileLog(Path(arguments[arguments.index("--learn") + 1]))
    yield log
    eventually(lambda: service.metric(LAG) == 0, 60)
    log.close()


def fill(log: FileLog, name: str) -> None:
    """Append far more events than the limit in one write."""
    now = now_ms()
    log.append([Click(f"{name}-{n // 5}", f"sku-{n % 60}", now - 1000) for n in range(MANY)])


def test_events_are_refused_while_too_many_wait_and_taken_again_after(service: Running, log: FileLog) -> None:
    event = {"events": [{"session": "honest", "item": "sku-1"}]}
    good(service.ask("POST", "/v1/events", event))
    rejected = service.metric('mtaw_rejected_total{reason="overloaded"}')
    fill(log, "flood")
    reply = service.ask("POST", "/v1/events", event)
    assert (reply.status, reply.code) == (503, "overloaded"), reply.body
    assert reply.headers["retry-after"] == "1"
    assert "are not learned yet" in reply.json["error"]["message"]
    assert service.metric(LAG) > 1000
    assert service.metric('mtaw_rejected_total{reason="overloaded"}') > rejected
    assert good(service.ask("POST", "/v1/recommend", {"session": ["sku-1"]}))["items"], "rankings wait for nothing"
    assert service.ask("DELETE", "/v1/sessions/honest").status == 200, "a request to forget is never refused"
    eventually(lambda: service.ask("POST", "/v1/events", event).status == 200, 60)
    eventually(lambda: service.metric(LAG) == 0 and service.metric("mtaw_learning_lag_seconds") == 0, 60)


def test_a_request_larger_than_the_limit_is_taken_when_nothing_waits(service: Running) -> None:
    eventually(lambda: service.metric(LAG) == 0, 60)
    events = [{"session": f"bulk-{n // 5}", "item": f"sku-{n % 60}"} for n in range(5000)]
    assert good(service.ask("POST", "/v1/events", {"events": events}))["accepted"] == 5000
    bad = [*events, {"session": "\ud800", "item": "sku-1"}]
    eventually(lambda: service.metric(LAG) == 0, 60)
    reply = service.ask("POST", "/v1/events", {"events": bad})
    assert reply.status == 400, reply.body


def test_half_a_record_at_the_end_of_the_log_keeps_no_event_out(service: Running, log: FileLog) -> None:
    with (log.folder / "events-0000000000.log").open("ab") as file:
        file.write(b"a change of the item table that a full disk cut short" * 10_000)
    event = {"events": [{"session": "after", "item": "sku-1"}]}
    eventually(lambda: service.ask("POST", "/v1/events", event).status == 200, 10)


@pytest.mark.parametrize(
    ("lag", "appending", "waited", "refused"),
    [
        (900, 101, 0.0, True), (900, 100, 0.0, False), (101, 0, 0.6, True), (90, 11, 0.6, True), (101, 0, 0.4, False),
        (100, 0, 60.0, False),
    ],
)  # fmt: skip
def test_events_are_refused_while_many_wait_or_some_wait_long(
    lag: int, appending: int, waited: float, refused: bool
) -> None:
    learners = [
        SimpleNamespace(
            follower=SimpleNamespace(lag=late, lag_seconds=seconds), settings=SimpleNamespace(max_backlog=1000)
        )
        for late, seconds in ((0, 0.0), (lag, waited))  # the slowest bundle decides
    ]
    counted: list[Any] = []
    service: Any = SimpleNamespace(
        learners=learners,
        appending=appending,
        metrics=SimpleNamespace(add=lambda *values: counted.append(values)),
    )
    if refused:
        with pytest.raises(ServiceError, match=f"about {lag + appending} events"):
            _check_backlog(service)
    else:
        _check_backlog(service)
    assert counted == [("mtaw_rejected_total", "overloaded")] * refused
