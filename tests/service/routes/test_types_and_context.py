"""Types of clicks and the context of visits over HTTP: in requests, kept sessions, and what is learned of these."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from tests.support.ranking.context_model import context_model
from tests.support.ranking.timed_model import END
from tests.support.ranking.typed_model import typed_model
from tests.support.service.running import Running, good, refused, running

SESSION = ["sku-12", "nobody", "sku-13"]
MAIL, SEARCH = {"referrer": "mail"}, {"referrer": "search", "region": "north"}


def served(model: Any, folder: Path) -> Iterator[tuple[Running, Recommender]]:
    """Yield a service that keeps sessions, and the recommender with the expected answers."""
    Bundle.save(folder, model, metrics={}, dataset={"name": "x", "fingerprint": "y"})
    with running(folder, "--sessions", "memory") as service:
        yield service, Recommender.load(folder)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Recommender]]:
    yield from served(typed_model(), tmp_path_factory.mktemp("types"))


@pytest.fixture(scope="module")
def in_context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Recommender]]:
    yield from served(context_model(), tmp_path_factory.mktemp("context"))


def ask(service: Running, path: str, **asked: Any) -> Any:
    """Return the answer to a request, at a fixed moment."""
    return good(service.ask("POST", f"/v1/{path}", {"k": 5, "at": END} | asked))


def same(answer: Any, out: Any) -> None:
    assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
    assert answer.get("unknown_values", []) == list(out.unknown_values)


@pytest.mark.parametrize(
    "types", [None, ["view", "view", "cart"], ["purchase", None, None], [None] * 2 + ["unheard of"]]
)
def test_types_of_requests_and_batches(typed: tuple[Running, Recommender], types: Any) -> None:
    service, rec = typed
    out, plain = (rec.recommend(SESSION, 5, at=END, types=of_clicks) for of_clicks in (types, None))
    same(ask(service, "recommend", session=SESSION, types=types), out)
    batch = ask(service, "recommend/batch", sessions=[SESSION, SESSION], types=[types, None])["answers"]
    same(batch[0], out)
    same(batch[1], plain)
    is_unknown = types is not None and "unheard of" in types
    assert (out.scores.tolist() == plain.scores.tolist()) == (types is None or is_unknown)
    assert out.unknown_values == (("type=unheard of",) if is_unknown else ())


@pytest.mark.parametrize("context", [None, MAIL, SEARCH, {"referrer": "unheard of"}])
def test_context_of_requests_and_batches(in_context: tuple[Running, Recommender], context: Any) -> None:
    service, rec = in_context
    session = rec.ids.external(np.array([12]))
    out = rec.recommend(session, 5, at=END, context=context)
    same(ask(service, "recommend", session=session, context=context), out)
    same(ask(service, "recommend/batch", sessions=[session] * 2, context=context)["answers"][1], out)
    assert (out.items != rec.recommend(session, 5, at=END).items) == (context in (MAIL, SEARCH))
    assert out.unknown_values == (() if context in (None, MAIL, SEARCH) else ("referrer=unheard of",))


WRONG_TYPES = [
    ("recommend", {"session": ["sku-12"], "types": []}, "there are 0 types for 1 clicks"),
    ("recommend", {"session": ["sku-12"], "types": [7]}, "Expected `str | null`"),
    ("recommend", {"session": ["sku-12"], "types": ["x" * 513]}, "512"),
    ("recommend/batch", {"sessions": [["sku-12"]], "types": []}, "there are 0 lists for 1 sessions"),
    ("recommend/batch", {"sessions": [[], ["sku-12"]], "types": [[], []]}, "types of session 1: there are 0"),
    ("sessions/odd/click", {"items": ["sku-12"], "types": ["view", "cart"]}, "there are 2 types for 1 clicks"),
]
WRONG_CONTEXT = [
    ({"device": "phone"}, "not a context column; the bundle has referrer, region"), ({"referrer": 1.5}, "Expected"),
    ({"referrer": "x" * 201}, "200"), ({str(n): "x" for n in range(9)}, "8"), ("mail", "Expected"),
]  # fmt: skip


def test_wrong_types_and_context_are_refused(
    typed: tuple[Running, Recommender], in_context: tuple[Running, Recommender]
) -> None:
    cases = [(typed[0], *wrong) for wrong in WRONG_TYPES]
    for context, why in WRONG_CONTEXT:
        cases.append((in_context[0], "recommend", {"session": ["sku-12"], "context": context}, why))
        cases.append((in_context[0], "sessions/odd/click", {"items": ["sku-12"], "context": context}, why))
    for service, path, asked, why in cases:
        assert why in refused(service.ask("POST", f"/v1/{path}", asked), 400, "invalid_request")
        assert service.ask("GET", "/v1/sessions/odd").status == 404


def test_a_kept_session_keeps_its_types(typed: tuple[Running, Recommender]) -> None:
    service, rec = typed
    clicks: list[str] = []
    types: list[str | None] = []
    for items, of_items in ((["sku-12"], ["cart"]), (["sku-13", "sku-14"], ["view", None]), (["sku-15"], None)):
        clicks, types = clicks + items, [*types, *(of_items or [None])]
        answer = ask(service, "sessions/visit/click", items=items, types=of_items)
        same(answer, rec.recommend(clicks, 5, at=END, types=types))
    assert service.ask("GET", "/v1/sessions/visit").json["clicks"] == clicks


def test_a_kept_session_keeps_its_context(in_context: tuple[Running, Recommender]) -> None:
    service, rec = in_context
    first, second = (rec.ids.external(np.array([item])) for item in (12, 13))
    clicks: list[Any] = []
    for items, sent, context in ((first, MAIL, MAIL), (second, None, MAIL), (second, SEARCH, SEARCH)):
        clicks += items
        answer = ask(service, "sessions/visit/click", items=items, context=sent)
        same(answer, rec.recommend(clicks, 5, at=END, context=context))
    good(service.ask("DELETE", "/v1/sessions/visit"))
    same(ask(service, "sessions/visit/click", items=first), rec.recommend(first, 5, at=END))


def test_a_click_names_what_is_unknown_of_it_alone(typed: tuple[Running, Recommender]) -> None:
    service, _ = typed
    asked: list[dict[str, Any]] = [
        {"items": ["sku-12"], "types": ["odd"], "context": {"referrer": "radio"}},
        {"items": ["sku-13"], "types": ["new"]},
        {"items": ["sku-14"]},
    ]
    answers = [ask(service, "sessions/odd/click", **one) for one in asked]
    named = [answer.get("unknown_values") for answer in answers]
    assert named == [["referrer=radio", "type=odd"], ["type=new"], None]


def test_what_is_learned_has_types_and_context(in_context: tuple[Running, Recommender], tmp_path: Path) -> None:
    _, rec = in_context
    with running(rec._folder, "--sessions", "memory", "--learn", str(tmp_path / "learned")) as service:
        items = rec.ids.external(np.array([12, 13]))
        ask(service, "sessions/visit/click", items=items, types=["cart", None], context=MAIL)
        event: dict[str, Any] = {"session": "event", "item": items[0], "context": SEARCH}
        good(service.ask("POST", "/v1/events", {"events": [event]}))
        wrong = [{**event, "context": {"referrer": ["mail"]}}]
        refused(service.ask("POST", "/v1/events", {"events": wrong}), 400, "invalid_request")
    lines = next((tmp_path / "learned").glob("events-*.log")).read_text().splitlines()
    clicks = [json.loads(line.partition(" ")[2]) for line in lines if '"item"' in line]
    assert [(click.get("type"), click.get("context")) for click in clicks] == [
        ("cart", MAIL), (None, MAIL), (None, SEARCH),
    ]  # fmt: skip
