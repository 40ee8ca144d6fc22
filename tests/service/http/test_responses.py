"""Refused requests: a 4xx of one JSON form, with a code and one line; the service keeps running."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.service.running import ADMIN_TOKEN, WITH_TOKEN, Running, refused

RECOMMEND = "/v1/recommend"
FINE = {"session": ["sku-11"]}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b'{"session": ["\xff"]}', b"\x00",
        b'{"session": [NaN]}', b'{"session": [Infinity]}', b'{"session": ["sku-1"],}', b'{"session": ["\\ud800"]}',
        b'{"session": []} {}', b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_invalid_json_is_refused(text_service: Running, body: bytes) -> None:
    refused(text_service.ask("POST", RECOMMEND, body), 400, "invalid_json")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[" * 4000, "object"), (b'{"session": [' + b"[" * 2000, "session"), (b"null", "object"), (b"{}", "session"),
        (b'{"session": null}', "session"), (b'{"session": [true]}', "session"), (b'{"session": [1e400]}', ""),
        (b'{"session": [], "k": 0}', "k"), (b'{"session": [], "k": "5"}', "k"), (b'{"session": [], "k": 2.5}', "k"),
        (b'{"session": [], "exclude": null}', "exclude"), (b'{"session": [], "allow": 5}', "allow"),
        (b'{"session": [], "exclude_seen": 1}', "exclude_seen"), (b'{"session": [], "excluded": []}', "excluded"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused(text_service: Running, body: bytes, named: str) -> None:
    reply = text_service.ask("POST", RECOMMEND, body)
    assert reply.code in ("invalid_request", "invalid_json")
    assert named in refused(reply, 400, reply.code)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        (RECOMMEND, {**FINE, "k": 51}, "k_too_large"),
        (RECOMMEND, {**FINE, "k": 10**30}, "k_too_large"),
        (RECOMMEND, {"session": ["a"] * 41}, "session_too_long"),
        ("/v1/recommend/batch", {"sessions": [[]] * 6}, "batch_too_large"),
        ("/v1/recommend/batch", {"sessions": [["a"] * 41]}, "session_too_long"),
        ("/v1/recommend/batch", {"sessions": [[]], "k": 51}, "k_too_large"),
        ("/v1/recommend/batch", {"sessions": [[]] * 5, "k": 41}, "answer_too_large"),
        (RECOMMEND, {**FINE, "k": 50, "fields": ["a", "b", "c", "d"]}, "answer_too_large"),
        ("/v1/sessions/one/click", {"items": ["a"] * 41}, "session_too_long"),
        ("/v1/sessions/one/click", {"items": []}, "invalid_request"),
    ],
)
def test_limits(text_service: Running, path: str, body: Any, code: str) -> None:
    message = refused(text_service.ask("POST", path, body), 400, code)
    if code != "invalid_request":
        assert "raise --max-" in message  # the remedy


def test_requests_at_the_limits_are_answered(text_service: Running) -> None:
    at_most = {"session": ["sku-11"] * 40, "k": 50}
    assert text_service.ask("POST", RECOMMEND, at_most).status == 200
    body = b'{"session": ["sku-11"]}'
    assert text_service.ask("POST", RECOMMEND, body + b" " * (4096 - len(body))).status == 200


def test_a_body_that_is_too_large_is_read_to_its_end_and_not_kept(text_service: Running) -> None:
    for size in (4097, 50 << 20):
        reply = text_service.ask("POST", RECOMMEND, bytes(size), timeout=60)
        refused(reply, 413, "body_too_large")
        assert reply.headers["connection"] == "close"
    connection = text_service.connect()
    connection.request("POST", RECOMMEND, (b" " * 1000 for _ in range(9)), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "invalid_request"), ("?k=5", "invalid_request"), ("?item=a&item=b", "invalid_item"),
        ("?item=%ff", "invalid_item"), ("?item=sku-11&k=51", "k_too_large"),
        ("?item=sku-11&by=price", "invalid_request"), ("?item=sku-11&by=sessions", "no_session_memory"),
        ("?item=sku-11&exclude=%ff", "invalid_item"),
        ("?item=sku-11&session_id=a&session_id=b", "invalid_request"),
        *((f"?item=sku-11&k={k}", "invalid_request") for k in ("0", "-1", "x", "1.5", "")),
    ],
)  # fmt: skip
def test_wrong_queries(text_service: Running, query: str, code: str) -> None:
    refused(text_service.ask("GET", "/v1/similar" + query), 400, code)


@pytest.mark.parametrize(
    "query",
    [*map(quote, ("", "-", "x", "1.0", "1e3", "+7", " 7", "0x7", "7_000", "\u0667", "9" * 500, f"{2**63}")),
     "7&exclude=x", "7&allow=", f"7&exclude={2**64}"],
)  # fmt: skip
def test_similar_takes_digits_where_ids_are_integers(text_service: Running, int_service: Running, query: str) -> None:
    refused(text_service.ask("GET", "/v1/similar?item=nobody"), 404, "unknown_item")
    refused(int_service.ask("GET", f"/v1/similar?item={2**63 - 2}"), 404, "unknown_item")
    refused(int_service.ask("GET", f"/v1/similar?item={query}"), 400, "invalid_item")


def test_no_such_route(text_service: Running, int_service: Running) -> None:
    for path in ("/nope", "/v1", "/v1/recommend/x", "/v1/sessions/a/b/click"):
        reply = text_service.ask("GET", path)
        assert reply.status in (404, 405), path
    for path in ("/nope", "/schema", "/schema/openapi.json", "/-/schema", "/docs/oauth2", "/redoc", "/swagger"):
        refused(text_service.ask("GET", path), 404, "not_found")
    refused(text_service.ask("POST", "/admin/compact", headers=WITH_TOKEN), 404, "not_found")
    refused(int_service.ask("POST", "/v1/sessions/one/click", {"items": [7]}), 404, "not_found")
    refused(int_service.ask("POST", "/v1/feedback", {}), 404, "not_found")


@pytest.mark.parametrize("path", ["/admin/reload", "/admin/items/add", "/admin/items/remove"])
def test_without_a_token_admin_routes_refuse_every_request(int_service: Running, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        message = refused(int_service.ask("POST", path, b"{", headers), 403, "no_admin_token")
        assert "--admin-token-file" in message


def test_the_wrong_method(text_service: Running) -> None:
    reply = text_service.ask("GET", RECOMMEND)
    refused(reply, 405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "Bearer wrong",
        ADMIN_TOKEN,
        f"Basic {ADMIN_TOKEN}",
        f"Bearer {ADMIN_TOKEN}2",
        "Bearer \xff",
        "Bearer",
        "Bearer  ",
    ],
)
def test_reload_needs_the_token(text_service: Running, header: str | None) -> None:
    reply = text_service.ask("POST", "/admin/reload", headers={} if header is None else {"Authorization": header})
    refused(reply, 401, "unauthorized")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert text_service.ask("POST", "/admin/reload", headers={"Authorization": f"bearer {ADMIN_TOKEN}"}).status == 200


def test_the_service_logged_no_error(text_service: Running) -> None:
    assert text_service.ask("POST", RECOMMEND, FINE).status == 200
    text_service.assert_no_error()


@pytest.mark.parametrize("session", [["11"], ["11", "12"], ["", "x"]])
def test_texts_where_ids_are_integers(int_service: Running, session: list[str]) -> None:
    """The popularity ranking would hide this mistake of the client."""
    answer = int_service.ask("POST", RECOMMEND, {"session": session})
    refused(answer, 400, "invalid_item")
    assert "the catalog's ids are int" in answer.json["error"]["message"]
    for place in (1, 40):  # a batch is ranked in chunks; the message counts over the whole batch
        batch = int_service.ask("POST", RECOMMEND + "/batch", {"sessions": [*[[]] * place, session]})
        refused(batch, 400, "invalid_item")
        assert f"session {place} has no id" in batch.json["error"]["message"]
    mixed = int_service.ask("POST", RECOMMEND, {"session": [*session, 424242]})
    assert (mixed.status, mixed.json["fallback"]) == (200, True)


def test_integers_where_ids_are_texts(text_service: Running) -> None:
    refused(text_service.ask("POST", RECOMMEND, {"session": [7, 8]}), 400, "invalid_item")
    refused(text_service.ask("POST", "/v1/sessions/typed/click", {"items": [7, 8]}), 400, "invalid_item")
    kept = text_service.ask("POST", "/v1/sessions/typed/click", {"items": ["nobody", 7]})
    assert (kept.status, kept.json["clicks"], kept.json["fallback"]) == (200, 2, True)  # nothing of the first was kept
    assert text_service.ask("POST", RECOMMEND, {"session": []}).json["fallback"]
    assert text_service.ask("POST", RECOMMEND, {"session": ["nobody"]}).json["fallback"]
