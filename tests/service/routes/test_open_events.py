"""Trusted and open events: who may teach, what an origin may, and where refusals are seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.online.log.events import now_ms
from tests.support.service.running import (
    OPEN,
    TRUSTED,
    WITH_TOKEN,
    Reply,
    Running,
    TwoWorkers,
    ask_on,
    eventually,
    good,
    refused,
    running,
)

WRONG = {"Authorization": "Bearer another-token-of-events"}
OTHER_SCHEME = {"Authorization": "Basic c2hvcDpzaG9w"}  # as of a page behind a password
NOTHING: dict[str, str] = {}
DAY = 86_400_000


@pytest.fixture(scope="module")
def opened(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two workers without a token of events, behind a proxy at 127.0.0.1."""
    learned = tmp_path_factory.mktemp("open") / "learned"
    with running(
        memory_bundle, "--learn", str(learned), "--proxy", "127.0.0.1", workers=2, environment=OPEN
    ) as service:
        yield service
        service.assert_no_error()


@pytest.fixture(scope="module")
def closed(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with a token of events, and with sessions."""
    learned = tmp_path_factory.mktemp("closed") / "learned"
    with running(memory_bundle, "--learn", str(learned), "--sessions", "memory") as service:
        yield service


def visits(name: str, count: int, item: str = "sku-1", **more: Any) -> dict[str, Any]:
    return {"events": [{"session": f"{name}-{number}", "item": item, **more} for number in range(count)]}


def send(service: Running, body: Any, headers: dict[str, str]) -> Reply:
    return service.ask("POST", "/v1/events", body, headers)


def clicks_in(service: Running, name: str) -> list[dict[str, Any]]:
    """Return the clicks of sessions whose names begin so, as they are in the log."""
    lines = [
        json.loads(line.partition(" ")[2])
        for file in sorted(Path(service.option("--learn")).glob("events-*.log"))
        for line in file.read_text().splitlines() if '"item"' in line
    ]  # fmt: skip
    return [line for line in lines if line["session"].startswith(name)]


def test_the_token_makes_events_trusted_and_their_times_believed(closed: Running) -> None:
    past, future = now_ms() - 5 * DAY, now_ms() + DAY
    for number, time in enumerate((past, future)):
        answer = good(send(closed, visits(f"trusted-{number}", 30, time=time), TRUSTED))
        assert (answer["accepted"], answer["refused"]) == (30, {})
    kept = clicks_in(closed, "trusted-")
    assert len(kept) == 60
    assert all(click["trusted"] and "refused" not in click for click in kept)
    assert {click["time"] for click in kept[:30]} == {past}
    assert all(click["time"] <= click["arrived"] for click in kept[30:]), "future times count as now"


@pytest.mark.parametrize("headers", [NOTHING, WRONG, OTHER_SCHEME, {"Authorization": "Bearer"}, WITH_TOKEN])
def test_a_service_with_a_token_refuses_events_without_it(closed: Running, headers: dict[str, str]) -> None:
    reply = send(closed, visits("refused", 1), headers)
    if headers is WITH_TOKEN:  # who may change the service may teach it
        assert good(reply)["refused"] == {}
        return
    assert "Authorization: Bearer" in refused(reply, 401, "unauthorized")
    assert not [click for click in clicks_in(closed, "refused") if not click.get("trusted")]


def test_events_without_the_token_may_be_opened(memory_bundle: Path, tmp_path: Path) -> None:
    with running(memory_bundle, "--learn", str(tmp_path / "learned"), "--open-events") as service:
        assert good(send(service, visits("open", 1), NOTHING))["refused"] == {}
        assert good(send(service, visits("trusted", 1), TRUSTED))["refused"] == {}
        refused(send(service, visits("wrong", 1), WRONG), 401, "unauthorized")
        assert [click.get("trusted") for click in clicks_in(service, "")] == [None, True]


def test_a_service_without_a_token_takes_open_events_and_refuses_a_token_that_it_does_not_know(opened: Running) -> None:
    for headers in (NOTHING, OTHER_SCHEME):
        assert good(send(opened, visits("open", 1, "sku-30"), headers))["accepted"] == 1
    assert "--events-token-file" in refused(send(opened, visits("wrong", 1), WRONG), 401, "unauthorized")
    assert all("trusted" not in click for click in clicks_in(opened, "open"))


def test_the_answer_says_how_many_clicks_a_guard_refuses_and_by_which_rule(opened: Running) -> None:
    origin = {"X-Forwarded-For": "198.51.100.1"}
    answer = good(send(opened, visits("one", 40, "sku-31"), origin))
    assert answer["accepted"] == 40
    assert set(answer["refused"]) == {"origin"}
    assert 30 < answer["refused"]["origin"] < 40
    made_up = {"events": [{"session": f"new-{n}", "item": f"made-up-{n}"} for n in range(300)]}
    answer = good(send(opened, made_up, {"X-Forwarded-For": "198.51.100.2"}))  # in a thread: there are many
    assert answer["accepted"] == 300
    assert answer["refused"]["origin_new"] > 250
    kept = clicks_in(opened, "new-")
    assert sum(click.get("refused") == "origin_new" for click in kept) == answer["refused"]["origin_new"]
    counted = 'mtaw_not_learned_clicks{reason="origin_new"}'
    eventually(lambda: opened.metric(counted) == answer["refused"]["origin_new"], 5)


def test_workers_count_an_origin_together_and_a_client_cannot_choose_another(opened: Running) -> None:
    both = TwoWorkers(opened)
    admitted = 0
    for step, link in enumerate([*both.connections.values()] * 3):
        headers = {"X-Forwarded-For": f"203.0.113.{step}, 198.51.100.3"}  # the first is the client's own
        answer = good(ask_on(link, "POST", "/v1/events", visits(f"both-{step}", 10, "sku-32"), headers))
        admitted += answer["accepted"] - answer["refused"].get("origin", 0)
    both.close()
    alone = good(send(opened, visits("alone", 60, "sku-32"), {"X-Forwarded-For": "198.51.100.4"}))
    assert admitted == alone["accepted"] - alone["refused"]["origin"]


def test_without_a_named_proxy_the_header_is_ignored_and_one_origin_is_warned_of(
    memory_bundle: Path, tmp_path: Path
) -> None:
    with running(memory_bundle, "--learn", str(tmp_path / "learned"), environment=OPEN) as service:
        counts = [
            good(send(service, visits(f"v{n}", 25), {"X-Forwarded-For": f"198.51.100.{n}"}))["refused"].get("origin", 0)
            for n in range(4)
        ]
        assert counts[1:] == [25] * 3
        (warning,) = service.events("one_origin")
        assert "--proxy" in warning["advice"]
        assert "--events-token-file" in warning["advice"]
        assert service.metric("mtaw_busiest_origin_share") == 1


def test_operators_see_the_last_refusals_by_rule_origin_and_item(opened: Running) -> None:
    good(send(opened, visits("seen", 40, "sku-33"), {"X-Forwarded-For": "198.51.100.5"}))
    both = TwoWorkers(opened)
    answers = [good(ask_on(link, "GET", "/admin/refusals", headers=WITH_TOKEN)) for link in both.connections.values()]
    both.close()
    listed = [[one for one in answer["refusals"] if one["item"] == "sku-33"] for answer in answers]
    assert listed[0] == listed[1]
    assert len(listed[0]) >= 30
    assert {one["rule"] for one in listed[0]} == {"origin"}
    (origin,) = {one["origin"] for one in listed[0]}
    assert len(bytes.fromhex(origin)) == 8
    times = [one["time"] for one in answers[0]["refusals"]]
    assert times == sorted(times, reverse=True)
    assert len(times) <= 256
    assert 0 < answers[0]["busiest_origin_share"] <= 1
    refused(opened.ask("GET", "/admin/refusals"), 401, "unauthorized")


def test_what_the_rules_of_the_log_refuse_is_listed_without_an_origin(closed: Running) -> None:
    good(send(closed, {"events": [{"session": "twice", "item": "sku-40", "id": "one"}] * 2}, TRUSTED))

    def listed() -> Any:
        answer = good(closed.ask("GET", "/admin/refusals", headers=WITH_TOKEN))
        assert answer["busiest_origin_share"] is None
        return [one for one in answer["refusals"] if one["item"] == "sku-40"]

    (duplicate,) = eventually(listed, 5)
    assert (duplicate["rule"], duplicate["origin"]) == ("duplicate", None)


def test_no_file_and_no_log_line_names_an_origin(opened: Running) -> None:
    address = "198.51.100.77"
    good(send(opened, visits("private", 40, "sku-34"), {"X-Forwarded-For": address}))
    listed = good(opened.ask("GET", "/admin/refusals", headers=WITH_TOKEN))["refusals"]
    origins = {one["origin"] for one in listed if one["origin"]}
    files = [path for path in Path(opened.option("--learn")).rglob("*") if path.is_file()]
    texts = [path.read_bytes() for path in (*files, opened.log)]
    assert any(b'"private-' in text for text in texts)
    for secret in (address, *origins):
        assert not any(secret.encode() in text or secret.encode().upper() in text for text in texts)
    for origin in origins:
        assert not any(bytes.fromhex(origin) in text for text in texts)


def test_clicks_of_kept_sessions_teach_if_they_may(closed: Running) -> None:
    path = "/v1/sessions/{}/click"
    for name, headers, kept in (("own", TRUSTED, [True]), ("open", NOTHING, []), ("basic", OTHER_SCHEME, [])):
        answer = good(closed.ask("POST", path.format(name), {"items": ["sku-1"], "k": 3}, headers))
        assert answer["clicks"] == 1
        assert [click.get("trusted") for click in clicks_in(closed, name)] == kept
    refused(closed.ask("POST", path.format("wrong"), {"items": ["sku-1"]}, WRONG), 401, "unauthorized")
    assert closed.ask("GET", "/v1/sessions/wrong").status == 404


def test_open_clicks_of_kept_sessions_are_guarded(memory_bundle: Path, tmp_path: Path) -> None:
    flags = ("--learn", str(tmp_path / "learned"), "--sessions", "memory")
    with running(memory_bundle, *flags, environment=OPEN) as service:
        for number in range(30):
            good(service.ask("POST", f"/v1/sessions/v{number}/click", {"items": ["sku-1"], "k": 3}, NOTHING))
        refusals = [click.get("refused") for click in clicks_in(service, "v")]
    assert set(refusals) == {None, "origin"}
    assert refusals.count(None) < 10
