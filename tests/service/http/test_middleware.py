"""What every request meets before it is routed: the rule for paths, headers of responses, and how bodies arrive."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.http import bodies
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Limits
from tests.support.service.running import WITH_TOKEN, Running, refused


@pytest.mark.parametrize(
    "path",
    ["//admin/reload", "/%61dmin/reload", "/admin//reload", "/admin/./reload", "/v1/../admin/reload", "/admin/reload/",
     "/admin%2Freload", "/admin%2freload", "/%2e/admin/reload", "/admin/reload//", "/./admin/reload",
     "//x/admin/reload",
     "/admin/reloa%64", "/admin/reload/.", "/admin/x/..", "/admin/reload%00"],
)  # fmt: skip
def test_only_one_spelling_of_a_path_is_routed(text_service: Running, path: str) -> None:
    for headers in (WITH_TOKEN, {}):
        refused(text_service.ask("POST", path, b"{}", headers), 400, "invalid_request")
    with text_service.raw() as connection:
        connection.sendall(f"POST http://x{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["..%2F..%2Fadmin/reload", "%2E%2E/admin/reload", "..%2f..%2fadmin%2freload", "%2e"])
def test_an_encoded_session_id_reaches_no_other_route(text_service: Running, path: str) -> None:
    reply = text_service.ask("POST", f"/v1/sessions/{path}", b"{}", WITH_TOKEN)
    assert reply.status in (400, 404, 405)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *((path, 400) for path in ("/v1/%72ecommend", "//v1/recommend", "/v1/./recommend", "/v1/recommend/")),
        *((f"/v1/sessions/{path}", 400) for path in ("a/clic%6B", "a/%63lick", "a%20b/clic%6b", "a/click%2F")),
        *(
            (f"/v1/sessions/{name}/click", 400)
            for name in ("a%0A", "a%0D", "a%20", "a%2Fb", "%C3%A4", "x" * 129, "a;b")
        ),
        *((f"/v1/sessions/{name}/click", 200) for name in ("a.b", ".a", "a..b", "...", "~a", "a-._~")),
    ],
)
def test_paths_and_session_ids_have_one_spelling(text_service: Running, path: str, status: int) -> None:
    reply = text_service.ask("POST", path, {"session" if path.endswith("mmend") else "items": ["sku-11"]})
    if status == 200:
        assert reply.status == 200, reply.body
    else:
        refused(reply, 400, "invalid_request")


def test_a_query_may_be_spelled_in_any_way(text_service: Running) -> None:
    assert text_service.ask("GET", "/v1/similar?item=%73ku-11&exclude=//&allow=/../").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/recommend", 400), ("POST", "/v1/recommend", 200),
     ("GET", "/healthz", 200), ("GET", "/nope", 404), ("POST", "/admin/reload", 401),
     ("GET", "/v1/similar?item=nobody", 404), ("GET", "/", 200), ("GET", "/metrics", 200), ("GET", "//", 400)],
)  # fmt: skip
def test_no_response_may_be_taken_for_another_type(text_service: Running, method: str, path: str, status: int) -> None:
    connection = text_service.connect()
    connection.request(method, path, b'{"session": []}' if status == 200 and method == "POST" else None)
    response = connection.getresponse()
    assert response.status == status
    assert [value for name, value in response.getheaders() if name.lower() == "x-content-type-options"] == ["nosniff"]
    connection.close()


def service_of(limit: int, held: int = 0) -> Any:
    """Return a service with a largest body, and with bytes of incomplete bodies that it holds."""
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    return SimpleNamespace(settings=SimpleNamespace(limits=Limits(body=limit)), metrics=metrics, partial_bodies=held)


def read(service: Any, *parts: bytes, length: str = "") -> bytes:
    messages = iter(
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    )

    async def receive() -> Any:
        return next(messages)

    return asyncio.run(bodies.read_body(receive, length, service))


def test_a_body_for_which_there_is_no_memory_counts_as_rejected() -> None:
    service = service_of(1 << 20, held=64 << 20)
    with pytest.raises(ServiceError, match="incomplete"):
        read(service, b"[1, 2,", b"3]")
    assert service.partial_bodies == 64 << 20
    assert 'mtaw_rejected_total{reason="overloaded"} 1\n' in service.metrics.text()


def test_a_body_may_be_as_large_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "_PARTIAL_BODIES", 5)
    monkeypatch.setattr(bodies, "_DISCARDED", 10)
    assert read(service_of(20), b"[1, 2, 3, 4,", b"5]") == b"[1, 2, 3, 4,5]"
    assert read(service_of(20), b"[1, 2, 3, 4,5]", length="14") == b"[1, 2, 3, 4,5]"
    with pytest.raises(ServiceError, match="larger than 20 bytes"):
        read(service_of(20), b"[1", length="21")


@pytest.mark.parametrize(
    "asked",
    [{"session": ["sku-11", "sku-3"]}, {"session": []}, {"session": ["sku-11"], "k": 3, "exclude": ["sku-3"]},
     {"session": ["sku-11"], "reasons": True}, {"session": ["sku-11"], "rules": {"filter": "no_such > 1"}},
     {"session": [5]}, {"session": ["sku-11"], "k": 100_000}, {"session": ["sku-11"], "explores": 1}, {}, []],
)  # fmt: skip
def test_a_request_is_answered_alike_at_once_and_in_a_task(text_service: Running, asked: Any) -> None:
    body = json.dumps(asked).encode()
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    answers = []
    for parts in ((head % len(body) + body,), (head % len(body), body)):  # a body that comes later is for a task
        with text_service.raw() as connection, connection.makefile("rb") as reply:
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05 if len(parts) > 1 else 0)
            lines, _, answer = reply.read().partition(b"\r\n\r\n")
        fields = json.loads(answer)
        fields.pop("recommendation", None)
        answers.append((sorted(line for line in lines.split(b"\r\n") if not line.startswith(b"date:")), fields))
    assert answers[0] == answers[1]
