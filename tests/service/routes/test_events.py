"""Services that learn: all workers learn each event, acknowledged ones survive failures, too many are refused."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.events import Click, Forget, now_ms
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.routes.events import _append, _check_backlog
from tests.service.conftest import N_ITEMS
from tests.support.service.running import (
    Running,
    TwoWorkers,
    ask_on,
    eventually,
    good,
    running,
    traffic,
)

PAIR = ("sku-1", "sku-2")
QUESTIONS = [["sku-1"], ["sku-2", "sku-9"], ["sku-20", "sku-21", "sku-1"]]
SECOND = 1.0  # limit for every ranking to know a click
PLENTY = ("--learn-limit", "item_floor=1000000", "--learn-limit", "pair_floor=1000")  # tests click on few items, often


@pytest.fixture(scope="module")
def service(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("learning")
    with running(memory_bundle, "--learn", str(folder / "learned"), *PLENTY, workers=2) as service:
        yield service
        service.assert_no_error()


@pytest.fixture(scope="module")
def two(service: Running) -> Iterator[TwoWorkers]:
    workers = TwoWorkers(service)
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def visits(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("visits")
    with running(memory_bundle, "--learn", str(folder / "learned"), *PLENTY, "--sessions", "memory") as service:
        yield service


def teach(service: Running, *events: dict[str, Any]) -> str:
    """Send events; return the log position after them."""
    answer = good(service.ask("POST", "/v1/events", {"events": list(events)}))
    assert answer["accepted"] == len(events)
    return answer["log_position"]


def visitors(prefix: str, count: int, items: tuple[str, ...] = PAIR) -> list[dict[str, Any]]:
    """Return clicks of `count` sessions, each on `items` in turn."""
    return [{"session": f"{prefix}{visitor}", "item": item} for visitor in range(count) for item in items]


def rankings(connection: http.client.HTTPConnection, k: int = 20) -> list[Any]:
    """Return the rankings of QUESTIONS, without their ids and log positions."""
    answers = [good(ask_on(connection, "POST", "/v1/recommend", {"session": session, "k": k})) for session in QUESTIONS]
    return [(answer["items"], answer["scores"]) for answer in answers]


def same(some: list[Any], others: list[Any]) -> bool:
    """Return whether rankings are equal, up to rounding from adding and removing clicks."""
    return all(
        ours[0] == theirs[0] and np.allclose(ours[1], theirs[1], rtol=0, atol=1e-5)
        for ours, theirs in zip(some, others, strict=True)
    )


def learned(service: Running, position: str, connections: list[http.client.HTTPConnection] | None = None) -> None:
    """Wait until every ranking knows `position`, for a second at most."""
    until = time.monotonic() + SECOND
    with contextlib.ExitStack() as stack:
        for connection in connections or [stack.enter_context(contextlib.closing(service.connect()))]:
            while good(ask_on(connection, "POST", "/v1/recommend", {"session": ["sku-1"]}))["log_position"] < position:
                assert time.monotonic() < until, f"{position} was not learned within {SECOND} s"
                time.sleep(0.01)


def test_events_sent_to_one_worker_change_the_rankings_of_the_other(service: Running, two: TwoWorkers) -> None:
    first, second = two.connections.values()
    before = rankings(second)
    answer = good(ask_on(first, "POST", "/v1/events", {"events": visitors("first-", 40)}))
    assert answer["accepted"] == 80
    learned(service, answer["log_position"], [second])
    after = rankings(second)
    assert after[0][1] != before[0][1], "forty visitors went from sku-1 to sku-2, but no score changed"
    learned(service, answer["log_position"], [first])
    assert rankings(first) == after, "two workers rank differently by the same events"


ODD_IDS = [
    "user@example.com", "a b", "x" * 200, "ß € 👤", "a/b", "a/click", "/", "..", "%2F", "100%", "tab\tnul\0", "y" * 512,
    "\N{SNOWMAN}" * 512,
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_IDS)
def test_a_session_with_any_id_that_events_take_can_be_deleted(service: Running, name: str) -> None:
    teach(service, {"session": name, "item": "sku-3"})
    deletion = good(service.ask("DELETE", f"/v1/sessions/{quote(name, safe='').replace('.', '%2E')}"))
    log = FileLog(Path(service.option("--learn")))
    (event,) = [entry.event for entry in log.read("", 100_000) if entry.position == deletion["log_position"]]
    log.close()
    assert isinstance(event, Forget)
    assert event.session == name


def test_events_with_ids_of_the_other_type_alone_are_refused(service: Running) -> None:
    reply = service.ask("POST", "/v1/events", {"events": [{"session": "s", "item": 5}, {"session": "s", "item": 6}]})
    assert (reply.status, reply.code) == (400, "invalid_item"), reply.body


@pytest.mark.parametrize("name", ["y" * 513, "%FF", "%E2%98"])
def test_deleting_a_session_with_an_invalid_id_is_refused(service: Running, name: str) -> None:
    reply = service.ask("DELETE", f"/v1/sessions/{name}")
    assert (reply.status, reply.code) == (400, "invalid_request"), reply.body
    assert "session" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"session": "s", "item": ""}, "$.events[1].item"),
        ({"session": "", "item": "sku-1"}, "$.events[1].session"),
        ({"item": "sku-1"}, "$.events[1]"),
        ({"session": "s", "item": "sku-1", "time": -1}, "event 1: time -1 must be Unix"),
        ({"session": "s", "item": "sku-1", "time": 10**15}, "event 1: time 1000000000000000 is in microseconds"),
        ({"session": "s", "item": "sku-1", "time": 1_764_150_000}, "event 1: time 1764150000 is in seconds"),
        ({"session": "s", "item": "sku-1", "id": ""}, "$.events[1].id"),
        ({"session": "s", "item": "sku-1", "when": 5}, "$.events[1]"),
    ],
)  # fmt: skip
def test_a_bad_event_is_named_and_none_of_its_request_is_kept(
    service: Running, event: dict[str, Any], message: str
) -> None:
    before = service.metric("mtaw_events_total")
    reply = service.ask("POST", "/v1/events", {"events": [{"session": "fine", "item": "sku-1"}, event]})
    assert (reply.status, reply.code) in [(400, "invalid_event"), (400, "invalid_request")], reply.body
    text = reply.json["error"]["message"]
    assert message in text
    assert "\n" not in text
    assert service.metric("mtaw_events_total") == before


def test_too_many_events_at_once_are_refused(service: Running) -> None:
    reply = service.ask("POST", "/v1/events", {"events": [{"session": "s", "item": "a"}] * 10_001})
    assert (reply.status, reply.code) == (400, "invalid_request")
    assert "10000" in reply.json["error"]["message"]


def test_metrics_and_the_openapi_document_cover_learning(service: Running) -> None:
    eventually(lambda: service.metric("mtaw_learned_clicks") >= 80, 5)
    teach(service, *[{"session": "twice", "item": "sku-9", "id": "one and the same"}] * 2)
    eventually(lambda: service.metric('mtaw_not_learned_clicks{reason="duplicate"}') == 1, 5)
    assert service.metric("mtaw_delta_clicks") > 0
    assert service.metric("mtaw_delta_bytes") > 0
    assert service.metric("mtaw_learning_stopped") == 0
    assert service.metric("mtaw_damaged_records") == 0
    paths = service.ask("GET", "/openapi.json").json["paths"]
    assert set(paths["/v1/events"]["post"]["responses"]) >= {"200", "400", "503"}
    assert "delete" in paths["/v1/sessions/{session_id}"]


def test_clicks_of_kept_sessions_are_learned(visits: Running) -> None:
    with contextlib.closing(visits.connect()) as connection:
        before = rankings(connection)
        for visitor in range(40):
            for item in PAIR:
                answer = good(ask_on(connection, "POST", f"/v1/sessions/visit-{visitor}/click", {"items": [item]}))
        assert answer["clicks"] == 2
        eventually(lambda: not same(rankings(connection), before), SECOND)
        eventually(lambda: visits.metric("mtaw_learned_clicks") == 80, SECOND)
        for visitor in range(40):
            position = good(ask_on(connection, "DELETE", f"/v1/sessions/visit-{visitor}"))["log_position"]
        learned(visits, position)
        assert same(rankings(connection), before)
        answer = good(ask_on(connection, "POST", "/v1/sessions/visit-0/click", {"items": ["sku-1"]}))
        assert answer["clicks"] == 1, "the service still keeps the session"


def test_a_full_disk_is_a_503_and_later_events_are_learned(visits: Running) -> None:
    teach(visits, *visitors("before-", 3))
    (worker,) = visits.worker_pids()
    (segment,) = Path(visits.option("--learn")).glob("events-*.log")
    limit = segment.stat().st_size + 100
    # As on a full disk, one write is cut short, and later ones fail.
    assert signal.SIGXFSZ in ignored_signals(worker), "otherwise the kernel kills the worker"
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for attempt in range(3):
        reply = visits.ask("POST", "/v1/events", {"events": visitors(f"full-{attempt}-", 50)})
        assert (reply.status, reply.code) == (503, "not_kept"), reply.body
        assert "\n" not in reply.json["error"]["message"]
    assert good(visits.ask("POST", "/v1/recommend", {"session": ["sku-1"]}))["items"]
    assert visits.metric("mtaw_events_refused_total") == 300
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    learned(visits, teach(visits, *visitors("after-", 5)))
    assert visits.worker_pids() == {worker}
    log = FileLog(Path(visits.option("--learn")))
    kept = {entry.event.session for entry in log.read("", 100_000)}
    log.close()
    assert {f"before-{i}" for i in range(3)} | {f"after-{i}" for i in range(5)} <= kept
    assert not any(name.startswith(("full-1-", "full-2-")) for name in kept)


def ignored_signals(pid: int) -> set[int]:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")]
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_acknowledged_events_survive_a_killed_worker_and_a_restart(memory_bundle: Path, tmp_path: Path) -> None:
    learn = tmp_path / "learned"
    options = ("--learn", str(learn), *PLENTY)

    def ask(client: int, number: int) -> tuple[str, Any]:
        name = f"{client}-{number}"
        clicks = [{"session": name, "item": f"sku-{(number * 7 + step) % N_ITEMS}", "id": f"{name}-{step}"}
                  for step in range(3)]  # fmt: skip
        return "/v1/events", {"events": clicks}

    with running(memory_bundle, *options, workers=2) as service:
        with traffic(service, ask, clients=4) as records:
            eventually(lambda: all(len(record.replies) > 20 for record in records))
            os.kill(min(service.worker_pids()), signal.SIGKILL)
            eventually(lambda: len(service.events("worker_started")) == 3)
            eventually(lambda: all(len(record.replies) > 40 for record in records))
        replies = [(body, reply) for record in records for body, reply in record.replies]
        assert {reply.status for _, reply in replies} == {200}
        acknowledged = {event["id"] for body, _ in replies for event in body["events"]}
        last = max(reply.json["log_position"] for _, reply in replies)
        both = TwoWorkers(service)
        learned(service, last, list(both.connections.values()))
        before = [rankings(link) for link in both.connections.values()]
        both.close()
        assert before[0] == before[1]
        assert len(service.events("worker_died")) == 1
    log = FileLog(learn)
    kept = [entry.event.id for entry in log.read("", 100_000)]
    assert log.damaged == 0
    log.close()
    assert acknowledged <= set(kept)
    assert len(kept) == len(set(kept)), "an event is in the log twice"
    with running(memory_bundle, *options) as service, contextlib.closing(service.connect()) as connection:
        assert rankings(connection) == before[0]
        assert service.metric("mtaw_learned_clicks") == len(kept)


LAG = "mtaw_learning_lag_events"
MANY = 60_000  # events: a worker learns them in more than a second


@pytest.fixture(scope="module")
def limited(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("backlog") / "learned"
    options = ("--learn", str(folder), "--max-backlog", "1000")
    with running(memory_bundle, *options) as limited:
        yield limited
        limited.assert_no_error()


@pytest.fixture
def log(limited: Running) -> Iterator[FileLog]:
    """The log, as another process writes it."""
    log = FileLog(Path(limited.option("--learn")))
    yield log
    eventually(lambda: limited.metric(LAG) == 0, 60)
    log.close()


def fill(log: FileLog, name: str) -> None:
    """Append far more events than the limit in one write."""
    now = now_ms()
    log.append([Click(f"{name}-{n // 5}", f"sku-{n % 60}", now - 1000) for n in range(MANY)])


def test_events_are_refused_while_too_many_wait_and_taken_again_after(limited: Running, log: FileLog) -> None:
    event = {"events": [{"session": "honest", "item": "sku-1"}]}
    good(limited.ask("POST", "/v1/events", event))
    rejected = limited.metric('mtaw_rejected_total{reason="overloaded"}')
    fill(log, "flood")
    reply = limited.ask("POST", "/v1/events", event)
    assert (reply.status, reply.code) == (503, "overloaded"), reply.body
    assert reply.headers["retry-after"] == "1"
    assert "are not learned yet" in reply.json["error"]["message"]
    assert limited.metric(LAG) > 1000
    assert limited.metric('mtaw_rejected_total{reason="overloaded"}') > rejected
    assert good(limited.ask("POST", "/v1/recommend", {"session": ["sku-1"]}))["items"], "rankings wait for nothing"
    assert limited.ask("DELETE", "/v1/sessions/honest").status == 200, "a request to forget is never refused"
    eventually(lambda: limited.ask("POST", "/v1/events", event).status == 200, 60)
    eventually(lambda: limited.metric(LAG) == 0 and limited.metric("mtaw_learning_lag_seconds") == 0, 60)


def test_a_request_larger_than_the_limit_is_taken_when_nothing_waits(limited: Running) -> None:
    eventually(lambda: limited.metric(LAG) == 0, 60)
    events = [{"session": f"bulk-{n // 5}", "item": f"sku-{n % 60}"} for n in range(5000)]
    assert good(limited.ask("POST", "/v1/events", {"events": events}))["accepted"] == 5000
    bad = [*events, {"session": "\ud800", "item": "sku-1"}]
    eventually(lambda: limited.metric(LAG) == 0, 60)
    reply = limited.ask("POST", "/v1/events", {"events": bad})
    assert reply.status == 400, reply.body


def test_half_a_record_at_the_end_of_the_log_keeps_no_event_out(limited: Running, log: FileLog) -> None:
    with (log.folder / "events-0000000000.log").open("ab") as file:
        file.write(b"a change of the item table that a full disk cut short" * 10_000)
    event = {"events": [{"session": "after", "item": "sku-1"}]}
    eventually(lambda: limited.ask("POST", "/v1/events", event).status == 200, 10)


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


@pytest.mark.parametrize("count", [1, 1000])
def test_clicks_are_judged_once_although_a_reload_closes_the_log(count: int) -> None:
    made: list[Any] = []
    settings = SimpleNamespace(fsync=False, stream=None)

    def closed(*_: Any, now: int) -> str:
        serving.learners = [SimpleNamespace(settings=settings, append=lambda clicks, now: f"{clicks} at {now}")]
        raise LearnError(f"closed at {now}")

    serving: Any = SimpleNamespace(
        learners=[SimpleNamespace(settings=settings, append=closed)],
        appending=0,
        metrics=SimpleNamespace(add=lambda *_, **__: None),
    )

    def make(learner: Any, now: int) -> Any:
        made.append((learner, now))
        return ["a click"]

    position = asyncio.run(_append(serving, make, count))
    ((_, now),) = made
    assert position == f"['a click'] at {now}"
