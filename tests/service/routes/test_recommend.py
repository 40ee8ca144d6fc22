"""Every route over HTTP: the answers are the Recommender's, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from mtaw_fast.recommender import Recommender
from tests.service.conftest import BIG, INT_IDS, N_ITEMS, ODD_IDS
from tests.support.service.running import Running, ask_on, good, same


@pytest.fixture(scope="module")
def rec(text_bundle: Path) -> Recommender:
    """The recommender with the expected answers."""
    return Recommender.load(text_bundle)


@pytest.fixture(scope="module")
def int_rec(int_bundle: Path) -> Recommender:
    """The same over integer ids."""
    return Recommender.load(int_bundle)


def test_recommend(text_service: Running, rec: Recommender) -> None:
    session = ["sku-11", "sku-30", "nobody", 7, "sku-11"]
    answer = good(text_service.ask("POST", "/v1/recommend", {"session": session, "k": 9}))
    same(answer, rec.recommend(session, 9))
    assert answer["unknown"] == ["nobody", 7]
    assert set(answer) == {"version", "recommendation", "items", "scores", "unknown", "fallback"}


def test_recommend_with_every_condition(text_service: Running, rec: Recommender) -> None:
    body: dict[str, Any] = {
        "session": ["sku-11", "sku-12"], "k": 50, "exclude": ["sku-20", "nobody"], "exclude_seen": True,
        "allow": [f"sku-{i}" for i in range(10, 40)], "timings": True, "repeats": True,
    }  # fmt: skip
    answer = good(text_service.ask("POST", "/v1/recommend", body))
    conditions = {name: body[name] for name in ("exclude", "allow", "exclude_seen")}
    same(answer, rec.recommend(body["session"], 50, **conditions))
    assert set(answer["timings"]) == {"queue", "lookup", "encode", "retrieve", "assemble", "total"}
    assert all(value >= 0 for value in answer["timings"].values())
    assert answer["repeats"] == [False] * 27


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


def test_repeats_are_reported(text_service: Running) -> None:
    session = [f"sku-{i}" for i in range(10, 30)]
    answer = good(text_service.ask("POST", "/v1/recommend", {"session": session, "k": 50, "repeats": True}))
    assert answer["repeats"] == [item in session for item in answer["items"]]
    assert any(answer["repeats"])


@pytest.mark.parametrize("session", [[], ["nobody", 5]])
def test_without_a_known_click_the_popular_items_come(
    text_service: Running, rec: Recommender, session: list[Any]
) -> None:
    answer = good(text_service.ask("POST", "/v1/recommend", {"session": session}))
    assert answer["fallback"]
    same(answer, rec.recommend(session))


def test_allowing_nothing_gives_nothing(text_service: Running) -> None:
    answer = good(text_service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "allow": []}))
    assert answer["items"] == answer["scores"] == []


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


def test_bundle(text_service: Running, int_service: Running) -> None:
    answer = good(text_service.ask("GET", "/v1/bundle"))
    assert (answer["items"], answer["ids"]) == (N_ITEMS, "str")
    assert answer["limits"] == {"k": 50, "clicks": 40, "batch": 5, "body": 4096}
    assert good(int_service.ask("GET", "/v1/bundle"))["ids"] == "int"


def test_health(text_service: Running) -> None:
    assert good(text_service.ask("GET", "/healthz"))["status"] == "ok"
    assert good(text_service.ask("GET", "/readyz"))["status"] == "ready"


def test_connections_are_kept(text_service: Running) -> None:
    connection = text_service.connect()
    for body in ({"session": ["sku-11"]}, {"session": 5}, {"session": ["sku-11"]}):
        reply = ask_on(connection, "POST", "/v1/recommend", body)
        assert reply.status in (200, 400)
        assert connection.sock is not None  # not closed by the answer
    connection.close()


def test_openapi_describes_every_route_with_examples(text_service: Running, int_service: Running) -> None:
    document = text_service.ask("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/v1/recommend", "/v1/recommend/batch", "/v1/similar", "/v1/items", "/v1/sessions/{session_id}/click",
        "/v1/sessions/{session_id}", "/v1/bundle", "/admin/reload", "/admin/items/add", "/admin/items/remove",
        "/admin/items", "/admin/items/hide", "/admin/items/show", "/admin/rules/{name}", "/healthz",
        "/readyz", "/metrics",
    }  # fmt: skip
    for path in document["paths"].values():
        for operation in path.values():
            assert "X-Bundle-Version" in operation["responses"]["200"]["headers"]
    recommend = document["paths"]["/v1/recommend"]["post"]
    assert set(recommend["responses"]) == {"200", "400", "408", "413", "503"}
    for response in recommend["responses"].values():
        assert response["content"]["application/json"]["examples"]
    # The example is a valid request.
    (example,) = recommend["requestBody"]["content"]["application/json"]["examples"].values()
    good(text_service.ask("POST", "/v1/recommend", example["value"]))
    # Routes that are off are not described.
    paths = set(int_service.ask("GET", "/openapi.json").json["paths"])
    assert not paths & {"/v1/sessions/{session_id}/click", "/v1/feedback"}


def test_only_its_own_pages_are_served(text_service: Running) -> None:
    for path in ("/schema", "/schema/openapi.json", "/-/schema", "/docs/oauth2", "/redoc", "/swagger"):
        assert text_service.ask("GET", path).status == 404, path


def test_scores_read_back_to_the_same_float32(text_service: Running, rec: Recommender) -> None:
    body = text_service.ask("POST", "/v1/recommend", {"session": ["sku-15"], "k": 50}).body
    scores = np.array(json.loads(body)["scores"], dtype=np.float32)
    assert scores.tobytes() == rec.recommend(["sku-15"], 50).scores.tobytes()
