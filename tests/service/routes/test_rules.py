"""Rules over HTTP: the answers are the Recommender's, private columns stay private, kept rules reach every worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from mtaw_fast.recommender import Recommender
from tests.service.conftest import N_ITEMS
from tests.support.service.running import WITH_TOKEN, Reply, Running, eventually, good, running, same

RULES: dict[str, Any] = {
    "filter": ['brand in ("own", "x")', "not brand == current.brand"],
    "boost": {"when": 'brand == "own"', "by": 2.5},
    "limit": {"per": "brand", "most": 3},
    "pin": {"sku-18": 2},
}
TABLE = [
    {"id": f"sku-{i}", "brand": ("own", "x", "y")[i % 3], "margin": float(i % 7)} for i in range(10, N_ITEMS) if i % 5
]
SESSION = ["sku-11", "sku-30", "sku-13"]


@pytest.fixture(scope="module")
def service(text_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(text_bundle, "--state", str(tmp_path_factory.mktemp("rules") / "state"), workers=2) as server:
        good(admin(server, "PUT", "/admin/items", {"items": TABLE, "public": ["brand"]}))
        eventually(lambda: all(ask(server, {"filter": 'brand == "own"'}).status == 200 for _ in range(24)))
        yield server


@pytest.fixture(scope="module")
def rec(text_bundle: Path) -> Recommender:
    recommender = Recommender.load(text_bundle)
    recommender.set_items(TABLE, public=["brand"])
    return recommender


def admin(service: Running, method: str, path: str, body: Any = None) -> Reply:
    return service.ask(method, path, body, WITH_TOKEN)


def ask(service: Running, rules: Any, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    return service.ask("POST", "/v1/recommend", {"session": SESSION, "k": 9, "rules": rules, **more}, headers)


def refused(reply: Reply, status: int = 400) -> str:
    assert reply.status == status, reply.body
    message = reply.json["error"]["message"]
    assert "\n" not in message
    return message


def test_every_route_that_ranks(service: Running, rec: Recommender) -> None:
    expected = rec.recommend(SESSION, 9, rules=RULES, reasons=True)
    answer = good(ask(service, RULES, reasons=True))
    same(answer, expected)
    assert answer["short"] == "rules"
    assert {reason["rule"] for reason in answer["reasons"]} >= {"boosted", "pinned"}
    batch = good(service.ask("POST", "/v1/recommend/batch", {"sessions": [SESSION, []], "k": 9, "rules": RULES}))
    for batch_answer, out in zip(batch["answers"], rec.recommend_batch([SESSION, []], 9, rules=RULES), strict=True):
        same(batch_answer, out)
    query = urlencode({"item": "sku-12", "k": 9, "rules": json.dumps(RULES)})
    similar = good(service.ask("GET", f"/v1/similar?{query}"))
    out = rec.similar_items("sku-12", 9, rules=RULES)
    assert (similar["items"], similar["scores"]) == (out.items, out.scores.tolist())


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        ({"limit": {"per": "margin", "most": 1}}, "no public column 'margin'"),
        ({"filter": "x" * 100_000}, "length <= 4096"),
        ("nothing", "no rules are kept under the name 'nothing'"),
    ],
)
def test_wrong_rules_are_one_line(service: Running, rules: Any, part: str) -> None:
    assert part in refused(ask(service, rules))


def test_the_token_opens_private_columns(service: Running, rec: Recommender) -> None:
    rules = {"filter": "margin > 3"}
    same(good(ask(service, rules, WITH_TOKEN)), rec.recommend(SESSION, 9, rules=rules))
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert "no public column 'margin'" in refused(ask(service, rules, headers))


def test_kept_rules(service: Running, rec: Recommender) -> None:
    def everywhere(status: int) -> None:
        """Wait until both workers answer so: the kernel draws one for each connection."""
        eventually(lambda: all(ask(service, "summer").status == status for _ in range(24)))

    rules = {"filter": "margin > 3"}
    assert refused(admin(service, "GET", "/admin/rules/summer"), 404)
    assert service.ask("PUT", "/admin/rules/summer", rules).status == 401
    assert "no column 'margins'" in refused(
        admin(service, "PUT", "/admin/rules/summer", {"filter": "margins > 3"}), 409
    )
    good(admin(service, "PUT", "/admin/rules/summer", rules))
    everywhere(200)
    same(good(ask(service, "summer")), rec.recommend(SESSION, 9, rules=rules))
    answer = good(admin(service, "GET", "/admin/rules/summer"))
    assert answer["rules"] == rules
    assert "broken" not in answer

    without = [{key: value for key, value in row.items() if key != "margin"} for row in TABLE]
    changed = good(admin(service, "PUT", "/admin/items", {"items": without, "public": ["brand"]}))
    assert any("rules 'summer': filter" in note and "'margin'" in note for note in changed["notes"])
    everywhere(400)
    assert "rules 'summer': filter: the items have no column 'margin'" in refused(ask(service, "summer", WITH_TOKEN))
    for path, body in (("/v1/recommend", {"session": SESSION}), ("/v1/recommend/batch", {"sessions": [SESSION]})):
        assert "margin" not in refused(service.ask("POST", path, {**body, "rules": "summer"}))
    assert "margin" not in refused(service.ask("GET", "/v1/similar?item=sku-11&rules=summer"))
    assert "margin" in good(admin(service, "GET", "/admin/rules/summer"))["broken"]
    good(admin(service, "PUT", "/admin/items", {"items": TABLE, "public": ["brand"]}))
    everywhere(200)
    good(admin(service, "DELETE", "/admin/rules/summer"))
    everywhere(400)
