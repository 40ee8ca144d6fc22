"""The routes of kept sessions, with the sessions in memory and in a real Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtaw_fast.recommender import Recommender
from tests.support.redis_server import Redis
from tests.support.service.running import Running, eventually, running


def click(service: Running, session: str, *items: Any, **asked: Any) -> Any:
    reply = service.ask("POST", f"/v1/sessions/{session}/click", {"items": items, **asked})
    assert reply.status == 200, reply.body
    assert reply.json["version"] == reply.version
    return reply.json


def test_a_click_is_answered_with_the_ranking_of_the_whole_session(text_service: Running, text_bundle: Path) -> None:
    rec = Recommender.load(text_bundle)
    assert click(text_service, "visit-1", "sku-11", k=5)["items"] == rec.recommend(["sku-11"], 5).items
    click(text_service, "visit-2", "sku-50")
    answer = click(text_service, "visit-1", "sku-12", "nobody", k=5, exclude_seen=True, repeats=True, timings=True)
    out = rec.recommend(["sku-11", "sku-12", "nobody"], 5, exclude_seen=True)
    assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
    assert (answer["clicks"], answer["unknown"], answer["repeats"]) == (3, ["nobody"], [False] * 5)
    assert answer["timings"]["encode"] > 0
    eventually(lambda: text_service.metric("mtaw_sessions") >= 2)


def test_a_service_keeps_the_last_clicks(text_service: Running, text_bundle: Path) -> None:
    click(text_service, "long", *["sku-11"] * 40)
    answer = click(text_service, "long", "sku-12", k=5)
    assert answer["clicks"] == 40
    expected = Recommender.load(text_bundle).recommend([*["sku-11"] * 39, "sku-12"], 5)
    assert answer["items"] == expected.items


def test_sessions_in_memory_expire_and_have_a_memory_limit(text_bundle: Path) -> None:
    flags = ("--sessions", "memory", "--session-ttl", "2", "--max-sessions-bytes", "5000")
    with running(text_bundle, *flags) as service:
        for number in range(20):
            assert click(service, f"visit-{number}", "sku-11", "x" * 200)["clicks"] == 2
        assert click(service, "visit-0", "sku-12")["clicks"] == 1
        assert click(service, "visit-19", "sku-12")["clicks"] == 3
        assert 0 < service.metric("mtaw_sessions_bytes") <= 5000
        eventually(lambda: service.metric("mtaw_sessions") == 0)
        assert click(service, "visit-19", "sku-12")["clicks"] == 1


def test_workers_share_sessions_in_redis(redis: Redis, text_bundle: Path) -> None:
    with running(text_bundle, "--sessions", redis.url, workers=2) as service:
        counts = [click(service, "shared", "sku-11")["clicks"] for _ in range(12)]
        assert counts == list(range(1, 13))
        redis.stop()
        reply = service.ask("POST", "/v1/sessions/shared/click", {"items": ["sku-11"]})
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "sessions_unavailable", "1")
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        redis.start()
        assert click(service, "shared", "sku-11")["clicks"] == 1


def test_a_kept_session_can_be_read_and_deleted(text_service: Running) -> None:
    path = "/v1/sessions/looked-at"
    assert text_service.ask("GET", path).code == "unknown_session"
    click(text_service, "looked-at", "sku-11", "nobody")
    click(text_service, "looked-at", "sku-12")
    for _ in range(2):
        reply = text_service.ask("GET", path)
        assert (reply.status, reply.json) == (200, {"version": reply.version, "clicks": ["sku-11", "nobody", "sku-12"]})
    assert text_service.ask("GET", path, headers={"Origin": "http://evil.example"}).code == "foreign_origin"
    assert text_service.ask("GET", "/v1/sessions/a%20b").code == "invalid_request"
    reply = text_service.ask("OPTIONS", path)
    assert (reply.status, reply.headers["allow"]) == (204, "DELETE, GET, OPTIONS")
    assert text_service.ask("DELETE", path).status == 200
    assert (text_service.ask("GET", path).status, text_service.ask("GET", path).code) == (404, "unknown_session")


def test_unknown_clicks_are_named_once_and_not_again(memory_service: Running) -> None:
    nobody = [f"{number:04}" + "x" * 500 for number in range(1000)]
    answer = click(memory_service, "unknown", *nobody)
    assert len(answer["unknown"]) > 400
    assert click(memory_service, "unknown", "sku-3", "y", "sku-3", 5, "y")["unknown"] == ["y", 5, "y"]
    reply = memory_service.ask("POST", "/v1/sessions/unknown/click", {"items": ["sku-11"]})
    assert reply.json["unknown"] == []
    assert len(reply.body) < 5000
    assert len(memory_service.ask("GET", "/v1/sessions/unknown").body) < 300_000


def test_reasons_for_a_long_session_are_refused_before_its_click_is_kept(memory_service: Running) -> None:
    click(memory_service, "reasons", *(f"sku-{number}" for number in range(400)), k=500)
    body = {"items": ["sku-11"], "k": 30, "reasons": True}
    reply = memory_service.ask("POST", "/v1/sessions/reasons/click", body)
    assert (reply.status, reply.code) == (400, "too_many_reasons")
    assert click(memory_service, "reasons", "sku-12", k=20, reasons=True)["clicks"] == 401
