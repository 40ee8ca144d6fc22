"""What every request meets before it is routed: the rule for paths, headers of responses, and how bodies arrive."""

from __future__ import annotations

import asyncio
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
        connection.sendall(f"POST http://x{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/v1/%72ecommend", "//v1/recommend", "/v1/./recommend", "/v1/recommend/"])
def test_the_routes_without_the_framework_have_one_spelling_too(text_service: Running, path: str) -> None:
    refused(text_service.ask("POST", path, {"session": ["sku-11"]}), 400, "invalid_request")


@pytest.mark.parametrize("path", ["..%2F..%2Fadmin/reload", "%2E%2E/admin/reload", "..%2f..%2fadmin%2freload", "%2e"])
def test_an_encoded_session_id_reaches_no_other_route(text_service: Running, path: str) -> None:
    reply = text_service.ask("POST", f"/v1/sessions/{path}", b"{}", WITH_TOKEN)
    assert reply.status in (400, 404, 405)


@pytest.mark.parametrize("session", ["a.b", ".a", "a..b", "...", "~a", "a-._~"])
def test_session_ids_may_have_dots(text_service: Running, session: str) -> None:
    assert text_service.ask("POST", f"/v1/sessions/{session}/click", {"items": ["sku-11"]}).status == 200


@pytest.mark.parametrize("path", ["a/clic%6B", "a/%63lick", "a%20b/clic%6b", "a/click%2F"])
def test_only_the_id_in_the_path_of_a_session_may_be_encoded(text_service: Running, path: str) -> None:
    reply = text_service.ask("POST", f"/v1/sessions/{path}", {"items": ["sku-11"]})
    assert "outside a session id" in refused(reply, 400, "invalid_request")


@pytest.mark.parametrize("session", ["a%0A", "a%0D", "a%20", "a%2Fb", "%EF%BC%A1"])
def test_an_encoded_session_id_has_the_same_characters(text_service: Running, session: str) -> None:
    path = f"/v1/sessions/{session}"
    refused(text_service.ask("POST", f"{path}/click", {"items": ["sku-11"]}), 400, "invalid_request")
    refused(text_service.ask("GET", path), 400, "invalid_request")


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
