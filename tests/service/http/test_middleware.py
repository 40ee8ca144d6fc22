"""What every request meets before it is routed: the rule for paths, and the headers of every response."""

from __future__ import annotations

import pytest

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
    [("POST", "/v1/recommend", 400), ("GET", "/healthz", 200), ("GET", "/nope", 404), ("POST", "/admin/reload", 401),
     ("GET", "/v1/similar?item=nobody", 404), ("GET", "/", 200), ("GET", "/metrics", 200), ("GET", "//", 400)],
)  # fmt: skip
def test_no_response_may_be_taken_for_another_type(text_service: Running, method: str, path: str, status: int) -> None:
    connection = text_service.connect()
    connection.request(method, path)
    response = connection.getresponse()
    assert response.status == status
    assert [value for name, value in response.getheaders() if name.lower() == "x-content-type-options"] == ["nosniff"]
    connection.close()


def test_a_ranking_is_not_sniffed(text_service: Running) -> None:
    assert (
        text_service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).headers["x-content-type-options"]
        == "nosniff"
    )
