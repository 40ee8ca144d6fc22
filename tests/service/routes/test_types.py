"""The types of clicks over HTTP: in requests, batches, kept sessions, and in what is learned of these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from tests.service.routes.test_context import ask
from tests.support.ranking.timed_model import END
from tests.support.ranking.typed_model import typed_model
from tests.support.service.running import Running, running


@pytest.fixture(scope="module")
def rec(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    folder = tmp_path_factory.mktemp("types") / "bundle"
    Bundle.save(folder, typed_model(), metrics={}, dataset={"name": "x", "fingerprint": "y"})
    return Recommender.load(folder)


@pytest.fixture(scope="module")
def service(rec: Recommender) -> Iterator[Running]:
    with running(rec._folder, "--sessions", "memory") as service:
        yield service


def test_requests_and_batches(service: Running, rec: Recommender) -> None:
    session, seen = ["sku-12", "nobody", "sku-13"], set()
    for types in (None, ["view", "view", "cart"], ["purchase", None, None], [None, None, "unheard of"]):
        out = rec.recommend(session, 5, at=END, types=types)
        answer = ask(service, "/v1/recommend", {"session": session, "k": 5, "at": END, "types": types})
        assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
        body = {"sessions": [session, session], "k": 5, "at": END, "types": [types, None]}
        batch = ask(service, "/v1/recommend/batch", body)["answers"]
        plain = rec.recommend(session, 5, at=END).scores.tolist()
        assert [batch_answer["scores"] for batch_answer in batch] == [out.scores.tolist(), plain]
        seen.add(tuple(answer["scores"]))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("path", "asked", "why"),
    [
        ("recommend", {"session": ["sku-12"], "types": []}, "there are 0 types for 1 clicks"),
        ("recommend", {"session": ["sku-12"], "types": [7]}, "Expected `str | null`"),
        ("recommend", {"session": ["sku-12"], "types": "view"}, "Expected `array | null`"),
        ("recommend", {"session": ["sku-12"], "types": ["x" * 513]}, "512"),
        ("recommend/batch", {"sessions": [["sku-12"]], "types": []}, "there are 0 lists for 1 sessions"),
        ("recommend/batch", {"sessions": [[], ["sku-12"]], "types": [[], []]}, "types of session 1: there are 0"),
        ("sessions/odd/click", {"items": ["sku-12"], "types": ["view", "cart"]}, "there are 2 types for 1 clicks"),
    ],
)
def test_wrong_types_are_refused_in_one_line(service: Running, path: str, asked: dict[str, Any], why: str) -> None:
    reply = service.ask("POST", f"/v1/{path}", asked)
    assert reply.status == 400
    assert why in reply.json["error"]["message"]
    assert "\n" not in reply.json["error"]["message"]
    assert service.ask("GET", "/v1/sessions/odd").status == 404


def test_a_kept_session_keeps_its_types(service: Running, rec: Recommender) -> None:
    clicks: list[str] = []
    types: list[str | None] = []
    for items, of_items in ((["sku-12"], ["cart"]), (["sku-13", "sku-14"], ["view", None]), (["sku-15"], None)):
        clicks, types = clicks + items, [*types, *(of_items or [None])]
        out = rec.recommend(clicks, 5, at=END, types=types)
        answer = ask(service, "/v1/sessions/visit/click", {"items": items, "types": of_items, "k": 5, "at": END})
        assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
    assert service.ask("GET", "/v1/sessions/visit").json["clicks"] == clicks


def test_what_is_learned_of_a_kept_session_has_types(rec: Recommender, tmp_path: Path) -> None:
    with running(rec._folder, "--sessions", "memory", "--learn", str(tmp_path / "learned")) as service:
        ask(
            service,
            "/v1/sessions/visit/click",
            {"items": ["sku-12", "sku-13", "sku-14"], "types": ["cart", None, "view"]},
        )
    lines = next((tmp_path / "learned").glob("events-*.log")).read_text().splitlines()
    kinds = [json.loads(line.partition(" ")[2]).get("type") for line in lines if '"item"' in line]
    assert kinds == ["cart", None, "view"]
