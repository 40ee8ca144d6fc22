"""Pages of other origins: only those of `--cors-origin` may read answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.service.settings import Settings
from tests.support.service.running import Reply, Running, refused, running

SHOP, OTHER, EVIL = "https://shop.example", "http://localhost:3000", "https://shop.example.evil"
ASKED = {"session": ["sku-11"], "k": 3}


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    """A service that two origins may use."""
    flags = ("--cors-origin", SHOP, "--cors-origin", OTHER, "--sessions", "memory")
    with running(text_bundle, *flags, environment={"MTAW_ADMIN_TOKEN": "s3cret"}) as service:
        yield service


def allowed(reply: Reply) -> str | None:
    """Return the origin whose pages may read a reply."""
    return reply.headers.get("access-control-allow-origin")


def preflight(service: Running, origin: str, path: str = "/v1/recommend", method: str = "POST") -> Reply:
    """Send the request with which a browser asks for permission."""
    headers = {"Origin": origin, "Access-Control-Request-Method": method,
               "Access-Control-Request-Headers": "content-type"}  # fmt: skip
    return service.ask("OPTIONS", path, headers=headers)


@pytest.mark.parametrize("origin", [SHOP, OTHER])
def test_those_that_were_named_may_read_every_answer_below_v1(service: Running, origin: str) -> None:
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
def test_no_page_operates_the_service(service: Running, path: str) -> None:
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
def test_what_is_no_origin_is_refused(tmp_path: Path, origin: str) -> None:
    with pytest.raises(UsageError, match="--cors-origin"):
        Settings(tmp_path, cors_origins=(origin,))
