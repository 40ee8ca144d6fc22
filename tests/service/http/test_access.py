"""Which web pages may click and read answers: origins, hosts and CORS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.http.access import check_origin
from mtaw_fast.service.settings import Settings
from tests.support.service.running import Reply, Running, refused, running

SHOP, OTHER, EVIL = "https://shop.example", "http://localhost:3000", "https://shop.example.evil"
ASKED = {"session": ["sku-11"], "k": 3}
CLICK = {"items": ["sku-11"], "k": 3}


def refusal(origin: str | None, host: str, content_type: str, *own: str) -> str | None:
    try:
        check_origin(origin, host, content_type, own)
    except ServiceError as problem:
        return problem.code if problem.status == 403 else f"status {problem.status}"
    return None


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://shop:9999", "https://[", "http://shop.evil"])
def test_another_origin_is_refused(origin: str, content_type: str) -> None:
    assert refusal(origin, "shop", content_type, "shop") == "foreign_origin"


@pytest.mark.parametrize("content_type", ["text/plain", "", "multipart/form-data; boundary=x", "text/plain; a=json"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "", "[", "127.0.0.1.evil.example", "localhost.x"]
)
def test_an_unknown_host_is_refused_unless_it_is_json(host: str, content_type: str) -> None:
    assert refusal(None, host, content_type, "shop") == "foreign_host"
    assert refusal(f"http://{host}", host, content_type, "shop") in ("foreign_host", "foreign_origin")
    assert refusal(None, host, "Application/JSON; charset=utf-8", "shop") is None


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "10.1.2.3:80", "SHOP:8000", "shop."])
def test_own_hosts_and_origins_are_allowed(host: str) -> None:
    assert refusal(None, host, "text/plain", "shop") is None
    assert refusal(f"http://{host}", host, "text/plain", "shop") is None
    assert refusal(f"https://{host.upper()}", host, "", "shop") is None


def click(service: Running, **headers: str) -> tuple[int, str]:
    """Return status and code of the answer to a click with these headers."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = service.ask("POST", "/v1/sessions/reader/click", CLICK, fields)
    return reply.status, reply.code if reply.status != 200 else ""


def test_a_service_refuses_foreign_clicks_and_stores_none(text_service: Running) -> None:
    counted = 'mtaw_requests_total{route="/v1/sessions/{id}/click",status="403"}'
    before = text_service.metric(counted)
    foreign = {"Content_Type": "text/plain", "Origin": "http://evil.example"}
    assert click(text_service, **foreign) == (403, "foreign_origin")
    assert click(text_service, Content_Type="text/plain", Host="evil.example") == (403, "foreign_host")
    assert click(text_service, Content_Type="text/plain", Host="shop.example:8000") == (200, "")
    host = f"127.0.0.1:{text_service.port}"
    assert click(text_service, Content_Type="text/plain", Origin=f"http://{host}") == (200, "")
    assert text_service.ask("POST", "/v1/sessions/reader/click", CLICK).json["clicks"] == 3
    assert text_service.metric(counted) == before + 2


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    flags = ("--cors-origin", SHOP, "--cors-origin", OTHER, "--sessions", "memory")
    with running(text_bundle, *flags) as service:
        yield service


def allowed(reply: Reply) -> str | None:
    return reply.headers.get("access-control-allow-origin")


def preflight(service: Running, origin: str, path: str = "/v1/recommend", method: str = "POST") -> Reply:
    """Send the request with which a browser asks for permission."""
    headers = {"Origin": origin, "Access-Control-Request-Method": method,
               "Access-Control-Request-Headers": "content-type"}  # fmt: skip
    return service.ask("OPTIONS", path, headers=headers)


@pytest.mark.parametrize("origin", [SHOP, OTHER])
def test_named_origins_may_read_every_answer_below_v1(service: Running, origin: str) -> None:
    headers = {"Origin": origin, "Content-Type": "application/json"}
    for method, path, body, status in (
        ("POST", "/v1/recommend", ASKED, 200), ("POST", "/v1/recommend", {"session": 5}, 400),
        ("GET", "/v1/similar?item=sku-11", None, 200), ("GET", "/v1/bundle", None, 200), ("GET", "/v1/nope", None, 404),
        ("POST", "/v1/sessions/a/click", {"items": ["sku-11"]}, 200), ("GET", "/v1/sessions/a", None, 200),
        ("DELETE", "/v1/sessions/a", None, 200),
    ):  # fmt: skip
        reply = service.ask(method, path, body, headers)
        assert (reply.status, allowed(reply)) == (status, origin), path
        assert reply.headers["vary"] == "Origin"
        assert "x-bundle-version" in reply.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in reply.headers


def test_a_preflight_is_answered(service: Running) -> None:
    for method in ("POST", "GET", "DELETE"):
        reply = preflight(service, SHOP, method=method)
        assert (reply.status, allowed(reply), reply.body) == (204, SHOP, b"")
        assert method in reply.headers["access-control-allow-methods"]
        assert reply.headers["access-control-allow-headers"] == "content-type"
        assert int(reply.headers["access-control-max-age"]) > 0
    assert service.ask("POST", "/v1/recommend", ASKED).status == 200


@pytest.mark.parametrize("origin", [EVIL, "http://shop.example", "https://shop.example:8443", "null", "", "*"])
def test_other_origins_get_no_cors_headers(service: Running, origin: str) -> None:
    for reply in (
        preflight(service, origin),
        service.ask("POST", "/v1/recommend", ASKED, {"Origin": origin}),
        service.ask("GET", "/v1/nope", headers={"Origin": origin}),
    ):
        assert not [name for name in reply.headers if name.startswith("access-control")]
        assert reply.headers["vary"] == "Origin"
    refused(
        service.ask("POST", "/v1/sessions/a/click", {"items": ["sku-11"]}, {"Origin": origin}), 403, "foreign_origin"
    )


@pytest.mark.parametrize("path", ["/admin/reload", "/admin/items/add", "/metrics", "/", "/openapi.json", "/healthz"])
def test_admin_routes_and_pages_have_no_cors_headers(service: Running, path: str) -> None:
    for reply in (preflight(service, SHOP, path), service.ask("GET", path, headers={"Origin": SHOP})):
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_by_default_no_origin_may_read(text_service: Running) -> None:
    for reply in (preflight(text_service, SHOP), text_service.ask("POST", "/v1/recommend", ASKED, {"Origin": SHOP})):
        assert not [name for name in reply.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize(
    "origin",
    ["*", "shop.example", "https://", "https://shop.example/", "https://shop.example/a", "ftp://shop.example", "null",
     "https://Shop.example", "https://a@shop.example", "https://shop.example:443", "http://x:99999", "https://ä.example",
     "https://shop.example?", ""],
)  # fmt: skip
def test_invalid_origins_are_refused(tmp_path: Path, origin: str) -> None:
    with pytest.raises(UsageError, match="--cors-origin"):
        Settings(tmp_path, cors_origins=(origin,))
