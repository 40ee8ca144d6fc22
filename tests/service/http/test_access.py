"""Clicks that a page of another site may have sent are refused."""

from __future__ import annotations

import pytest

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.http.access import check_origin
from tests.support.service.running import Running

CLICK = {"items": ["sku-11"], "k": 3}


def refused(origin: str | None, host: str, content_type: str, *own: str) -> str | None:
    """Return the error code, None if the request is allowed."""
    try:
        check_origin(origin, host, content_type, own)
    except ServiceError as problem:
        return problem.code if problem.status == 403 else f"status {problem.status}"
    return None


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://shop:9999", "https://[", "http://shop.evil"])
def test_another_origin_is_refused(origin: str, content_type: str) -> None:
    assert refused(origin, "shop", content_type, "shop") == "foreign_origin"


@pytest.mark.parametrize("content_type", ["text/plain", "", "multipart/form-data; boundary=x", "text/plain; a=json"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "", "[", "127.0.0.1.evil.example", "localhost.x"]
)
def test_an_unknown_host_is_refused_unless_it_is_json(host: str, content_type: str) -> None:
    assert refused(None, host, content_type, "shop") == "foreign_host"
    assert refused(f"http://{host}", host, content_type, "shop") in ("foreign_host", "foreign_origin")
    assert refused(None, host, "Application/JSON; charset=utf-8", "shop") is None


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "10.1.2.3:80", "SHOP:8000", "shop."])
def test_own_hosts_and_origins_are_allowed(host: str) -> None:
    assert refused(None, host, "text/plain", "shop") is None
    assert refused(f"http://{host}", host, "text/plain", "shop") is None
    assert refused(f"https://{host.upper()}", host, "", "shop") is None


def click(service: Running, **headers: str) -> tuple[int, str]:
    """Return status and code of the answer to a click with these headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = service.ask("POST", "/v1/sessions/reader/click", CLICK, named)
    return reply.status, reply.code if reply.status != 200 else ""


def test_a_service_refuses_such_clicks_and_keeps_none_of_them(text_service: Running) -> None:
    counted = 'mtaw_requests_total{route="/v1/sessions/{id}/click",status="403"}'
    before = text_service.metric(counted)
    foreign = {"Content_Type": "text/plain", "Origin": "http://evil.example"}
    assert click(text_service, **foreign) == (403, "foreign_origin")
    assert click(text_service, Content_Type="text/plain", Host="evil.example") == (403, "foreign_host")
    assert click(text_service, Content_Type="text/plain", Host="shop.example:8000") == (200, "")
    own = f"127.0.0.1:{text_service.port}"
    assert click(text_service, Content_Type="text/plain", Origin=f"http://{own}") == (200, "")
    assert text_service.ask("POST", "/v1/sessions/reader/click", CLICK).json["clicks"] == 3
    assert text_service.metric(counted) == before + 2
