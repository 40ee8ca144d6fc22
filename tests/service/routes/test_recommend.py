"""Every route over HTTP: the answers are the Recommender's, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from mtaw_fast.recommender import Recommender
from tests.service.conftest import BIG, INT_IDS, N_ITEMS, ODD_IDS
from tests.support.service.running import Running, good, same


@pytest.fixture(scope="module")
def rec(text_bundle: Path) -> Recommender:
    return Recommender.load(text_bundle)


@pytest.fixture(scope="module")
def int_rec(int_bundle: Path) -> Recommender:
    return Recommender.load(int_bundle)


@pytest.mark.parametrize(
    "body",
    [
        {"session": ["sku-11", "sku-30", "nobody", 7, "sku-11"], "k": 9}, {"session": []}, {"session": ["nobody", 5]},
        {"session": ["sku-11"], "allow": []}, {"session": [f"sku-{i}" for i in range(10, 30)], "repeats": True},
        {"session": ["sku-11", "sku-12"], "k": 50, "exclude": ["sku-20", "nobody"], "exclude_seen": True,
         "allow": [f"sku-{i}" for i in range(10, 40)], "timings": True, "repeats": True},
    ],
)  # fmt: skip
def test_recommend(text_service: Running, rec: Recommender, body: dict[str, Any]) -> None:
    answer = good(text_service.ask("POST", "/v1/recommend", body))
    out = rec.recommend(**body)
    same(answer, out)
    if "repeats" in body:
        assert out.repeats is not None
        assert answer["repeats"] == out.repeats.tolist()
    if "timings" in body:
        assert set(answer["timings"]) == {"queue", "lookup", "encode", "retrieve", "assemble", "total"}
        assert all(value >= 0 for value in answer["timings"].values())
    fields = {"version", "recommendation", "items", "scores", "unknown", "fallback"}
    assert set(answer) == fields | (body.keys() & {"timings", "repeats"})


def test_a_bundle_with_a_session_memory(memory_service: Running, memory_bundle: Path) -> None:
    rec, sessions = Recommender.load(memory_bundle), [["sku-11", "sku-30"], [], ["sku-5"]]
    stages = [f'mtaw_stage_seconds_count{{stage="{stage}"}}' for stage in ("memory", "encode")]
    before = [memory_service.metric(stage) for stage in stages]
    for session in sessions:
        body = {"session": session, "k": 9}
        answer = good(memory_service.ask("POST", "/v1/recommend", {**body, "timings": True}))
        same(answer, rec.recommend(session, 9))
        assert ("memory" in answer["timings"]) == bool(session)
        same(good(memory_service.ask("POST", "/v1/recommend", body)), rec.recommend(session, 9))
    answer = good(memory_service.ask("POST", "/v1/recommend/batch", {"sessions": sessions, "k": 9}))
    for session, batch_answer in zip(sessions, answer["answers"], strict=True):
        same(batch_answer, rec.recommend(session, 9))
    clicked = memory_service.ask("POST", "/v1/sessions/with-memory/click", {"items": ["sku-3"]})
    same(good(clicked), rec.recommend(["sku-3"]))
    counts = [memory_service.metric(stage) - start for stage, start in zip(stages, before, strict=True)]
    assert counts == [5, 7]


def test_any_character_may_be_in_an_id(text_service: Running, rec: Recommender) -> None:
    answer = good(text_service.ask("POST", "/v1/recommend", {"session": ODD_IDS, "k": 50, "allow": ODD_IDS}))
    assert sorted(answer["items"]) == sorted(ODD_IDS)
    assert answer["unknown"] == []
    for item in ODD_IDS:
        same(good(text_service.ask("GET", f"/v1/similar?item={quote(item, safe='')}")), rec.similar_items(item))
        form = urlencode({"k": 3, "item": item})  # with + for a space
        same(good(text_service.ask("GET", f"/v1/similar?{form}")), rec.similar_items(item, 3))


def test_integers_stay_integers(int_service: Running, int_rec: Recommender) -> None:
    answer = good(int_service.ask("POST", "/v1/recommend", {"session": [*INT_IDS, str(BIG), BIG - 1], "k": 60}))
    same(answer, int_rec.recommend([*INT_IDS, str(BIG), BIG - 1], 60))
    assert answer["unknown"] == [str(BIG), BIG - 1]
    for item in INT_IDS:
        same(good(int_service.ask("GET", f"/v1/similar?item={item}")), int_rec.similar_items(item))


def test_batch_answers_are_those_of_single_requests(text_service: Running, rec: Recommender) -> None:
    sessions = [["sku-11", "sku-12"], [], ["nobody"], ["sku-40"]]
    body = {"sessions": sessions, "k": 7, "exclude": ["sku-13"], "exclude_seen": True, "repeats": True}
    answer = good(text_service.ask("POST", "/v1/recommend/batch", body))
    assert len(answer["answers"]) == len(sessions)
    for session, batch_answer in zip(sessions, answer["answers"], strict=True):
        same(batch_answer, rec.recommend(session, 7, exclude=["sku-13"], exclude_seen=True))
        assert len(batch_answer["repeats"]) == 7
    assert good(text_service.ask("POST", "/v1/recommend/batch", {"sessions": []}))["answers"] == []


def test_bundle_and_health(text_service: Running, int_service: Running) -> None:
    answer = good(text_service.ask("GET", "/v1/bundle"))
    assert (answer["items"], answer["ids"]) == (N_ITEMS, "str")
    assert answer["limits"] == {"k": 50, "clicks": 40, "batch": 5, "results": 200, "body": 4096}
    assert good(int_service.ask("GET", "/v1/bundle"))["ids"] == "int"
    assert good(text_service.ask("GET", "/healthz"))["status"] == "ok"
    assert good(text_service.ask("GET", "/readyz"))["status"] == "ready"


def test_openapi_describes_every_route_with_examples(text_service: Running, int_service: Running) -> None:
    document = text_service.ask("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/v1/recommend", "/v1/recommend/batch", "/v1/similar", "/v1/items", "/v1/sessions/{session_id}/click",
        "/v1/sessions/{session_id}", "/v1/bundle", "/admin/reload", "/admin/items/add", "/admin/items/remove",
        "/admin/items", "/admin/items/new", "/admin/items/hide", "/admin/items/show", "/admin/placements",
        "/admin/placements/{name}", "/healthz",
        "/readyz", "/metrics",
    }  # fmt: skip
    for path in document["paths"].values():
        for operation in path.values():
            assert "X-Bundle-Version" in operation["responses"]["200"]["headers"]
    recommend = document["paths"]["/v1/recommend"]["post"]
    assert set(recommend["responses"]) == {"200", "400", "403", "408", "413", "503"}
    for response in recommend["responses"].values():
        assert response["content"]["application/json"]["examples"]
    # The example is a valid request.
    (example,) = recommend["requestBody"]["content"]["application/json"]["examples"].values()
    good(text_service.ask("POST", "/v1/recommend", example["value"]))
    # Routes that are off are not described.
    paths = set(int_service.ask("GET", "/openapi.json").json["paths"])
    assert not paths & {"/v1/sessions/{session_id}/click", "/v1/feedback"}
