"""The context of visits over HTTP: in requests, events and kept sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from tests.support.ranking.context_model import context_model
from tests.support.ranking.timed_model import END, N
from tests.support.service.running import Running, eventually, running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context") / "bundle"
    Bundle.save(folder, context_model(), metrics={}, dataset={"name": "x", "fingerprint": "y"})
    return folder


@pytest.fixture(scope="module")
def service(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    learned = tmp_path_factory.mktemp("learned")
    with running(bundle, "--sessions", "memory", "--learn", str(learned)) as service:
        yield service


def ask(service: Running, path: str, asked: dict[str, Any]) -> Any:
    reply = service.ask("POST", path, asked)
    assert reply.status == 200, reply.body
    return reply.json


def test_requests_are_ranked_within_their_context(service: Running, bundle: Path) -> None:
    rec, session = Recommender.load(bundle), Recommender.load(bundle).ids.external(np.array([12]))
    tops = []
    for context in (None, {"referrer": "mail"}, {"referrer": "search", "region": "north"}, {"referrer": "unheard of"}):
        body = {"k": 5, "at": END, "context": context}
        out = rec.recommend(session, 5, at=END, context=context)
        answer = ask(service, "/v1/recommend", {**body, "session": session})
        assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
        batch = ask(service, "/v1/recommend/batch", {**body, "sessions": [session] * 2})
        assert [batch_answer["items"] for batch_answer in batch["answers"]] == [out.items] * 2
        tops.append(rec.ids.lookup(out.items))
    assert (tops[1] >= N // 2).all()
    assert (tops[2] < N // 2).all()


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ({"device": "phone"}, "not a context column; the bundle has referrer, region"),
        ({"referrer": 1.5}, "Expected"),
        ({"referrer": "x" * 201}, "200"),
        ({str(n): "x" for n in range(9)}, "8"),
        ("mail", "Expected"),
    ],
)
def test_wrong_context_is_refused_in_one_line(service: Running, bundle: Path, context: Any, why: str) -> None:
    session = Recommender.load(bundle).ids.external(np.array([12]))
    reply = service.ask("POST", "/v1/recommend", {"session": session, "context": context})
    assert reply.status == 400
    assert why in reply.json["error"]["message"]
    assert "\n" not in reply.json["error"]["message"]
    assert service.ask("POST", "/v1/sessions/odd/click", {"items": session, "context": context}).status == 400
    assert service.ask("GET", "/v1/sessions/odd").status == 404


def test_a_kept_session_keeps_its_context(bundle: Path) -> None:
    rec = Recommender.load(bundle)
    with running(bundle, "--sessions", "memory") as service:
        check_kept_context(service, rec)


def check_kept_context(service: Running, rec: Recommender) -> None:
    first, second = rec.ids.external(np.array([12])), rec.ids.external(np.array([13]))
    ask(service, "/v1/sessions/visit/click", {"items": first, "context": {"referrer": "mail"}})
    answer = ask(service, "/v1/sessions/visit/click", {"items": second, "k": 5, "at": END})
    assert (rec.ids.lookup(answer["items"]) >= N // 2).all()
    answer = ask(
        service, "/v1/sessions/visit/click", {"items": second, "k": 5, "at": END, "context": {"referrer": "search"}}
    )
    assert (rec.ids.lookup(answer["items"]) < N // 2).all()
    other = ask(service, "/v1/sessions/other/click", {"items": first, "k": 5, "at": END})
    assert other["items"] != answer["items"]
    assert service.ask("DELETE", "/v1/sessions/visit").status == 200
    repeated = ask(service, "/v1/sessions/visit/click", {"items": first, "k": 5, "at": END})
    assert repeated["items"] == other["items"]


def test_events_are_learned_within_their_context_and_forgotten(service: Running, bundle: Path) -> None:
    """An item of the lower half becomes the first one by mail, until its visits are deleted."""
    rec = Recommender.load(bundle)
    hot, session = rec.ids.external(np.array([15]))[0], rec.ids.external(np.array([12]))

    def first() -> Any:
        return ask(service, "/v1/recommend", {"session": session, "k": 1, "context": {"referrer": "mail"}})["items"][0]

    before = first()
    assert before != hot
    for visit in range(30):
        events = [{"session": f"e-{visit}", "item": item, "context": {"referrer": "mail"}} for item in (*session, hot)]
        ask(service, "/v1/events", {"events": events})
    eventually(lambda: first() == hot)
    for visit in range(30):
        assert service.ask("DELETE", f"/v1/sessions/e-{visit}").status == 200
    eventually(lambda: first() != hot)
    wrong = [{"session": "e", "item": hot, "context": {"referrer": ["mail"]}}]
    assert service.ask("POST", "/v1/events", {"events": wrong}).status == 400
