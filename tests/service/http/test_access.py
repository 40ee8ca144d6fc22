"""Which web pages may click and read answers: origins, hosts and CORS."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.experiment import feedback_file
from mtaw_fast.service.http.access import Gate
from mtaw_fast.service.settings import Settings
from tests.support.service.running import Reply, Running, refused, running

SHOP, OTHER, EVIL = "https://shop.example", "http://localhost:3000", "https://shop.example.evil"
ASKED = {"session": ["sku-11"], "k": 3}
CLICK = {"items": ["sku-11"], "k": 3}


SAME_SITE, OTHER_SITE = "same-site", "cross-site"


def refusal(
    path: str = "/v1/recommend", method: str = "POST", settings: Settings | None = None, **headers: str | None
) -> str | None:
    """Return the code with which a request with these headers is refused; None if it is not."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items() if value is not None]
    problem = Gate(settings or Settings(Path(), host="shop")).problem(
        {"headers": fields, "raw_path": path.encode(), "method": method}
    )
    return None if problem is None else f"{problem.status} {problem.code}"


PATHS = ["/v1/recommend", "/v1/recommend/batch", "/v1/similar", "/v1/sessions/a", "/v1/feedback", "/admin/items/hide"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://shop:9999", "https://[", "http://shop.evil", "shop", ""]
)
def test_another_origin_is_refused_where_a_request_may_store(origin: str, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        assert refusal(path, method, host="shop", origin=origin) == "403 foreign_origin"
    assert refusal("/metrics", "GET", host="shop", origin=origin) is None
    assert refusal(path, "OPTIONS", host="shop", origin=origin) is None


def test_a_page_of_another_site_is_known_where_browsers_send_no_origin() -> None:
    """As of a picture whose address is a route."""
    for site in (SAME_SITE, OTHER_SITE):
        assert refusal("/v1/similar", "GET", host="shop", sec_fetch_site=site) == "403 foreign_origin"
        assert refusal("/docs", "GET", host="shop", sec_fetch_site=site) is None  # a link
    for site in ("same-origin", "none"):
        assert refusal("/v1/similar", "GET", host="shop", sec_fetch_site=site) is None


def test_named_origins_are_allowed_below_v1_alone() -> None:
    settings = Settings(Path(), host="shop", cors_origins=(SHOP,))
    for origin in (SHOP, SHOP.upper()):
        assert refusal(settings=settings, host="shop", origin=origin, sec_fetch_site=OTHER_SITE) is None
        assert refusal("/admin/reload", settings=settings, host="shop", origin=origin) == "403 foreign_origin"
    assert refusal(settings=settings, host="shop", origin=EVIL) == "403 foreign_origin"


@pytest.mark.parametrize("path", ["/v1/recommend", "/metrics", "/", "/admin/reload", "/nope", "//"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.x", "0x7f.1", "2130706433"]
)
def test_an_unknown_host_is_refused_everywhere(host: str, path: str) -> None:
    assert refusal(path, host=host) == "403 foreign_host"
    assert refusal(path, "GET", host=host, origin=f"http://{host}") == "403 foreign_host"


@pytest.mark.parametrize(
    "host",
    ["[", "a:b", "a:99999", "localhost:-1", "localhost:0", "a:1:2", "[::1", "a@localhost", "localhost/", "a b",
     "localhost?", "localhost#", "ä", "localhost\\x", ":80"],
)  # fmt: skip
def test_an_invalid_host_is_a_bad_request(host: str) -> None:
    assert refusal(host=host) == "400 invalid_request"


@pytest.mark.parametrize(
    "host",
    ["localhost:8000", "LocalHost", "localhost.", "127.0.0.1", "[::1]:8000", "10.1.2.3:80", "SHOP:8000", "shop.",
     "localhost:", "named.example", "[fe80::1]"],
)  # fmt: skip
def test_own_hosts_and_origins_are_allowed(host: str) -> None:
    settings = Settings(Path(), host="shop", trusted_hosts=("Named.example",))
    assert refusal(settings=settings, host=host) is None
    assert refusal(settings=settings, host=host, origin=f"http://{host}") is None
    assert refusal(settings=settings, host=host, origin=f"https://{host.upper()}", sec_fetch_site="same-origin") is None


def test_a_request_without_host_is_no_browsers() -> None:
    assert refusal() is refusal(host="") is None
    assert refusal(origin="http://evil.example") == "403 foreign_origin"


def click(service: Running, **headers: str) -> tuple[int, str]:
    """Return status and code of the answer to a click with these headers."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = service.ask("POST", "/v1/sessions/reader/click", CLICK, fields)
    return reply.status, reply.code if reply.status != 200 else ""


def test_a_service_refuses_foreign_clicks_and_stores_none(text_service: Running) -> None:
    counted = 'mtaw_requests_total{route="other",status="403"}'
    before = text_service.metric(counted)
    assert click(text_service, Content_Type="text/plain", Origin="http://evil.example") == (403, "foreign_origin")
    assert click(text_service, Content_Type="application/json", Host="evil.example") == (403, "foreign_host")
    assert click(text_service, Host="shop.example:8000") == (200, "")
    host = f"127.0.0.1:{text_service.port}"
    assert click(text_service, Content_Type="text/plain", Origin=f"http://{host}") == (200, "")
    assert text_service.ask("POST", "/v1/sessions/reader/click", CLICK).json["clicks"] == 3
    assert text_service.metric(counted) == before + 2


@pytest.mark.parametrize("path", ["/v1/similar?k=x", "/v1/recommend", "/healthz", "/nope"])
@pytest.mark.parametrize("host", ["a:b", "a:99999"])
def test_a_host_with_a_wrong_port_is_a_bad_request_on_every_route(text_service: Running, path: str, host: str) -> None:
    refused(text_service.ask("POST" if path == "/v1/recommend" else "GET", path, None, {"Host": host}), 400,
            "invalid_request")  # fmt: skip
    text_service.assert_no_error()


def test_a_foreign_page_writes_no_ranking_into_the_log(text_bundle: Path, tmp_path: Path) -> None:
    with running(text_bundle, "--feedback", f"{tmp_path}/kept/") as service:
        for headers in ({"Origin": EVIL}, {"Host": "evil.example"}):
            for method, path, body in (
                ("POST", "/v1/recommend", ASKED | {"session_id": "s"}), ("GET", "/v1/similar?item=sku-11", None),
                ("POST", "/v1/recommend/batch", {"sessions": [[]], "session_id": "s"}),
            ):  # fmt: skip
                assert service.ask(method, path, body, headers).status == 403
        service.ask("POST", "/v1/recommend", ASKED | {"session_id": "own"})
        assert service.stop() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "kept" / feedback_file.NAME)) as db:
        assert db.execute("SELECT DISTINCT session FROM rankings").fetchall() == [("own",)]


@pytest.mark.parametrize("name", ["", "shop.example:80", "https://shop.example", "shop example", "*.example", "ä"])
def test_invalid_names_of_the_service_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--trusted-host"):
        Settings(tmp_path, trusted_hosts=(name,))


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
