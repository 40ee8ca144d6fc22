"""Rules over HTTP: the answers are the Recommender's, private columns stay private, placements reach every worker."""

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
        ("nothing", "Expected `object"),
    ],
)
def test_wrong_rules_are_one_line(service: Running, rules: Any, part: str) -> None:
    assert part in refused(ask(service, rules))


def test_the_token_opens_private_columns(service: Running, rec: Recommender) -> None:
    rules = {"filter": "margin > 3"}
    same(good(ask(service, rules, WITH_TOKEN)), rec.recommend(SESSION, 9, rules=rules))
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert "no public column 'margin'" in refused(ask(service, rules, headers))


def put(service: Running, name: str, body: Any) -> Reply:
    return admin(service, "PUT", f"/admin/placements/{name}", body)


def test_placements(service: Running, rec: Recommender) -> None:
    def at(name: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        body = {"session": SESSION, "k": 9, "placement": name, **more}
        return service.ask("POST", "/v1/recommend", body, headers)

    def everywhere(expected: Any) -> None:
        """Wait until both workers answer so: the kernel draws one for each connection."""
        eventually(lambda: all(at("cart").json.get("items") == expected for _ in range(24)))

    rules, path = {"filter": "margin > 3"}, "/admin/placements/cart"
    content = {"sets": [{"name": "rich", "rules": rules, "from": "2026-01-01"}]}
    plain = rec.recommend(SESSION, 9)
    assert refused(admin(service, "GET", path), 404)
    assert service.ask("PUT", path, content).status == 401
    odd = {"sets": [{"rules": {"filter": 'brand == "owm"'}}]}
    assert "no item has 'owm' in 'brand'; did you mean 'own'?" in good(put(service, "odd", odd))["notes"][0]
    good(admin(service, "DELETE", "/admin/placements/odd"))
    wrong = {"sets": [{"rules": {"filter": "margins > 3"}}]}
    assert "placement 'cart', set 'set-1': filter: the items have no column 'margins'" in refused(
        put(service, "cart", wrong), 409
    )
    for body in ({}, {**content, "undo_to": 1}):
        assert "send either `sets` or `undo_to`" in refused(put(service, "cart", body))
    assert "sets[0].share must be a number, above 0 and at most 1" in refused(
        put(service, "cart", {"sets": [{"rules": rules, "share": 1.5}]})
    )
    pinned = good(put(service, "odd", {"sets": [{"rules": {"pin": {"nobody": 1}}}]}))
    assert pinned["notes"] == [
        "placement 'odd', set 'set-1': pinned, but shown only once they can be: 'nobody' (unknown)"
    ]
    good(admin(service, "DELETE", "/admin/placements/odd"))
    same(good(at("cart")), plain)
    good(put(service, "cart", content))
    expected = rec.recommend(SESSION, 9, rules=rules)
    everywhere(expected.items)
    same(good(at("cart")), expected)
    for moment in (1_700_000_000_000, "1700000000000", "2023-11-14", "2023-11-14T22:13+01:00"):
        same(good(at("cart", at=moment)), plain)
    same(good(at("cart", at="2026-06-01")), expected)
    assert "at 'soon' is not a time; write 2017-10-15" in refused(at("cart", at="soon"))
    assert "length <= 64" in refused(at("cart", at="2023" * 20))
    same(good(at("cart", rules=RULES)), rec.recommend(SESSION, 9, rules=RULES))
    similar = good(service.ask("GET", "/v1/similar?item=sku-12&k=9&placement=cart"))
    assert similar["items"] == rec.similar_items("sku-12", 9, rules=rules).items
    body = {"sessions": [SESSION, []], "k": 9, "placement": "cart"}
    batch = good(service.ask("POST", "/v1/recommend/batch", body))
    for answer, out in zip(batch["answers"], rec.recommend_batch([SESSION, []], 9, rules=rules), strict=True):
        same(answer, out)
    assert "mtaw_unknown_placements_total 0" not in service.ask("GET", "/metrics").body.decode()
    assert 'mtaw_placement_answers_total{placement="cart"}' in service.ask("GET", "/metrics").body.decode()

    good(put(service, "cart", {"sets": []}))
    everywhere(plain.items)
    good(put(service, "cart", {"undo_to": 1}))
    everywhere(expected.items)
    revisions = good(admin(service, "GET", path))["revisions"]
    assert [(revision["number"], revision["content"]) for revision in revisions] == [
        (1, content), (2, {"sets": []}), (3, content),
    ]  # fmt: skip
    listed = good(admin(service, "GET", "/admin/placements"))
    assert listed["placements"] == {"cart": revisions[-1]}
    assert "no revision 9 any more; there are: 1, 2, 3" in refused(put(service, "cart", {"undo_to": 9}), 409)


def test_placements_whose_columns_go(service: Running) -> None:
    def answers(status: int) -> bool:
        return all(ask(service, None, placement="rich").status == status for _ in range(24))

    path = "/admin/placements/rich"
    good(put(service, "rich", {"sets": [{"rules": {"filter": "margin > 3"}}], "together": True}))
    eventually(lambda: answers(200))
    without = [{key: value for key, value in row.items() if key != "margin"} for row in TABLE]
    changed = good(admin(service, "PUT", "/admin/items", {"items": without, "public": ["brand"]}))
    assert any("placement 'rich', set 'set-1': filter" in note and "'margin'" in note for note in changed["notes"])
    eventually(lambda: answers(400))
    reason = "placement 'rich', set 'set-1': filter: the items have no column 'margin'"
    assert reason in refused(ask(service, None, WITH_TOKEN, placement="rich"))
    for rules in (None, {"filter": 'brand == "own"'}):
        for route, body in (("recommend", {"session": SESSION}), ("recommend/batch", {"sessions": [SESSION]})):
            reply = service.ask("POST", f"/v1/{route}", {**body, "placement": "rich", "rules": rules})
            assert "margin" not in refused(reply)
    assert "margin" not in refused(service.ask("GET", "/v1/similar?item=sku-11&placement=rich"))
    assert reason in good(admin(service, "GET", path))["broken"]
    assert reason in good(admin(service, "GET", "/admin/placements"))["broken"]["rich"]
    good(admin(service, "PUT", "/admin/items", {"items": TABLE, "public": ["brand"]}))
    eventually(lambda: answers(200))
    good(admin(service, "DELETE", path))
    assert refused(admin(service, "GET", path), 404)
