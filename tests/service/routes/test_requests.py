"""Ids in requests: their limits on every route, so that no set or dict of them takes quadratic time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mtaw_fast.rules import RuleSet
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.ranking_ids import EXAMPLE
from mtaw_fast.service.routes.checks import SentRules, check_reasons, cost_of, note_time, ranks_fast
from mtaw_fast.service.routes.requests import RankingOptions
from tests.support.service.running import WITH_TOKEN, Running, refused, running

LONGEST = "x" * 512
MODULUS = 2**61 - 1  # Python hashes integers modulo this
COLLIDING = [MODULUS * factor for factor in range(1, 42_001)]
TOO_LARGE: list[Any] = [LONGEST + "x", 2**63, -(2**63) - 1, MODULUS * 2**40]


@pytest.fixture(scope="module")
def service(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with every route."""
    folder = tmp_path_factory.mktemp("messages")
    flags = ("--sessions", "memory", "--feedback", f"{folder}/kept/", "--learn", str(folder / "learned"))
    with running(memory_bundle, *flags) as service:
        yield service
        service.assert_no_error()


def bodies(item: Any) -> list[tuple[str, Any]]:
    """Return a request of every route and field that takes an item id, with this one."""
    return [
        ("/v1/recommend", {"session": [item, "sku-11"]}),
        ("/v1/recommend", {"session": ["sku-11"], "exclude": [item]}),
        ("/v1/recommend", {"session": ["sku-11"], "allow": [item]}),
        ("/v1/recommend/batch", {"sessions": [["sku-11"], [item, "sku-11"]]}),
        ("/v1/sessions/a/click", {"items": [item, "sku-11"]}),
        ("/v1/feedback", {"recommendation": EXAMPLE, "shown": [item, "sku-11"]}),
        ("/v1/feedback", {"recommendation": EXAMPLE, "clicked": [item, "sku-11"]}),
        ("/v1/feedback", {"recommendation": EXAMPLE, "bought": [item, "sku-11"]}),
        ("/v1/events", {"events": [{"session": "s", "item": item}]}),
        ("/admin/items/add", {"items": [item], "neighbors": [["sku-11"]]}),
        ("/admin/items/add", {"items": ["new"], "neighbors": [[item, "sku-11"]]}),
        ("/admin/items/remove", {"items": [item]}),
    ]


@pytest.mark.parametrize("number", range(len(bodies(""))))
def test_every_field_bounds_its_ids(service: Running, number: int) -> None:
    for item in TOO_LARGE:
        path, body = bodies(item)[number]
        message = refused(service.ask("POST", path, body, WITH_TOKEN), 400, "invalid_request")
        assert "$." in message, message  # refused while it was decoded
    for item in (LONGEST, 2**63 - 1, -(2**63)):
        path, body = bodies(item)[number]
        if path in ("/v1/recommend", "/v1/recommend/batch", "/v1/sessions/a/click"):
            assert service.ask("POST", path, body).status == 200


@pytest.mark.parametrize(("body", "why"), [({"session": [], "top_k": 3}, "unknown field `top_k`"), ({}, "`session`")])
def test_the_fields_of_a_request_are_listed(service: Running, body: dict[str, Any], why: str) -> None:
    message = refused(service.ask("POST", "/v1/recommend", body), 400, "invalid_request")
    assert f"{why}; the fields are k, exclude, " in message


@pytest.mark.parametrize(("event", "why"), [({"when": 5}, "unknown field `when`"), ({"item": "a"}, "field `session`")])
def test_the_fields_of_an_event_are_listed(service: Running, event: dict[str, Any], why: str) -> None:
    message = refused(service.ask("POST", "/v1/events", {"events": [event]}), 400, "invalid_request")
    assert f"{why} - at `$.events[0]`; the fields are session, item, time, type, id, context; see" in message
    rules = {"filter": [], "limit": [event]}  # may be a list or one
    message = refused(service.ask("POST", "/v1/recommend", {"session": [], "rules": rules}), 400, "invalid_request")
    assert "at `$.rules.limit[0]`; the fields are per, most; see" in message


@pytest.mark.parametrize("name", ["item", "exclude", "allow", "session_id", "search"])
def test_every_query_parameter_bounds_its_ids(service: Running, int_service: Running, name: str) -> None:
    path = "/v1/items" if name == "search" else "/v1/similar"
    parameters = {} if name in ("search", "item") else {"item": "sku-11"}
    query = urlencode({**parameters, name: LONGEST + "x"})
    refused(service.ask("GET", f"{path}?{query}"), 400, "invalid_request")
    assert service.ask("GET", f"{path}?{urlencode({**parameters, name: LONGEST})}").status in (200, 404)
    if name in ("item", "exclude", "allow"):
        for number in (2**63, -(2**63) - 1, MODULUS * 7):
            query = urlencode({"item": 7, name: number})
            refused(int_service.ask("GET", f"{path}?{query}"), 400, "invalid_item")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/feedback", {"recommendation": EXAMPLE, "shown": COLLIDING}),
        ("/v1/feedback", {"recommendation": EXAMPLE, "bought": [*range(2, 60_000), "sku-11"]}),
        ("/v1/recommend", {"session": ["sku-11"], "exclude": COLLIDING}),
        ("/v1/recommend/batch", {"sessions": [COLLIDING[edge : edge + 900] for edge in range(0, 42_000, 900)], "k": 1,
                                 "reasons": True}),
        ("/v1/sessions/b/click", {"items": COLLIDING}),
    ],
)  # fmt: skip
def test_ids_that_collide_stop_no_worker(service: Running, path: str, body: Any) -> None:
    began = time.monotonic()
    reply = service.ask("POST", path, body)
    seconds = time.monotonic() - began
    assert reply.status == 400
    assert seconds < 1.5  # with a set of 42,000 colliding numbers: 7 s and more


def test_too_many_reasons_are_refused_at_the_first_click_too_many() -> None:
    looked_at = []

    class Clicks(list[int]):
        def __iter__(self) -> Iterator[int]:
            looked_at.append(len(self))
            return super().__iter__()

    sessions = [Clicks(range(100)) for _ in range(200)]
    with pytest.raises(ServiceError, match="more than 10000 pairs"):
        check_reasons(RankingOptions(k=50, reasons=True), sessions)
    assert len(looked_at) == 3


def test_cost_grows_with_what_is_asked_for() -> None:
    fine: dict[str, Any] = {"k": 20}
    usual = cost_of(fine, 3000, 3)
    assert 1 < usual < 2
    for more in (
        {"k": 500}, {"fields": ["brand"]}, {"exclude": ["a"] * 5}, {"allow": ["a"] * 5}, {"reasons": True},
        {"rules": SentRules('{"filter":"new"}', True)},
    ):  # fmt: skip
        assert cost_of(fine | more, 3000, 3) > usual
    assert cost_of(fine, 3000, 30) > usual
    assert cost_of(fine, 1_000_000, 3) > 10 * usual
    assert cost_of(fine, 3000, 3 * 256, 256) == pytest.approx(256 * usual)
    assert cost_of(fine | {"k": 500, "reasons": True}, 3000, 20) > 30 * usual
    assert cost_of(fine | {"rules": RuleSet.of({"pin": {"a": 1}})}, 3000, 3) == usual


def test_rules_that_once_took_long_leave_the_event_loop() -> None:
    rules = RuleSet.of({"limit": {"per": "brand", "most": 1}})
    note_time(rules, 500.0)
    assert ranks_fast(rules)
    note_time(rules, 20_000.0)
    assert not ranks_fast(rules)
    for slow in ({"boost": {"when": "new", "by": 1}}, {"filter": "brand == current.brand"}):
        assert not ranks_fast(RuleSet.of(slow))
    assert not ranks_fast(SentRules("{}", True))
