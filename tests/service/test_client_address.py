"""Where a request comes from: its connection, or what a named proxy says, whatever the client puts before it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtaw_fast.errors import UsageError
from mtaw_fast.service.client_address import ClientAddress
from mtaw_fast.service.settings import Settings

PROXIES = ("10.0.0.7", "10.1.0.0/16", "fd00::/8")
PROXIED = ClientAddress(Settings(Path(), proxies=PROXIES))
NETWORKS = [ipaddress.ip_network(proxy) for proxy in PROXIES]
X_REAL_IP = ClientAddress(Settings(Path(), proxies=PROXIES, proxy_header="x-real-ip"))
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: (
        not any(address in network for network in NETWORKS)
        and (address.version == 4 or (address.ipv4_mapped is None and address.scope_id is None))
    )
)


def scope(peer: str | None, *headers: bytes | tuple[bytes, bytes]) -> dict[str, Any]:
    fields = [(b"x-forwarded-for", field) if isinstance(field, bytes) else field for field in headers]
    return {"client": None if peer is None else (peer, 4711), "headers": fields}


def test_without_a_proxy_the_connection_decides_and_a_header_is_ignored() -> None:
    direct = ClientAddress(Settings(Path()))
    assert direct.of(scope("192.0.2.1", b"198.51.100.1")) == "192.0.2.1"
    assert direct.of(scope("::1")) == "::1"
    assert direct.of(scope(None, b"198.51.100.1")) == ""


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.8", "10.2.0.1", "fc00::1", "", "a unix socket"])
def test_a_peer_that_is_no_named_proxy_cannot_choose_its_origin(peer: str) -> None:
    assert PROXIED.of(scope(peer, b"198.51.100.1")) == peer


@pytest.mark.parametrize("peer", ["10.0.0.7", "10.1.255.3", "fd00::12", "::ffff:10.0.0.7"])
@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ([b"198.51.100.1"], "198.51.100.1"),
        ([b"203.0.113.9, 198.51.100.1"], "198.51.100.1"),  # the client sent the first
        ([b"203.0.113.9,198.51.100.1, 10.1.2.3 , 10.0.0.7"], "198.51.100.1"),  # through two more proxies
        ([b"203.0.113.9", b"198.51.100.1", b"10.1.2.3"], "198.51.100.1"),
        ([b"198.51.100.1:51324"], "198.51.100.1"),
        ([b"2001:db8::1"], "2001:db8::1"),
        ([b"[2001:db8::1]"], "2001:db8::1"),
        ([b"[2001:DB8:0::1]:443"], "2001:db8::1"),
        ([b'"[2001:db8::1]:443"'], "2001:db8::1"),
        ([b"::ffff:198.51.100.1"], "198.51.100.1"),
        ([b"198.51.100.1, ,\t,"], "198.51.100.1"),
    ],
)
def test_a_named_proxy_says_where_a_request_comes_from(peer: str, fields: list[bytes], address: str) -> None:
    assert PROXIED.of(scope(peer, *fields)) == address
    assert X_REAL_IP.of(scope(peer, *fields)) == peer
    assert X_REAL_IP.of(scope(peer, *[(b"x-real-ip", field) for field in fields])) == address


@pytest.mark.parametrize(
    "field",
    [b"", b",", b"unknown", b"_hidden", b"1.2.3.4.5", b"1.2.3", b"[::1", b"[]", b"1.2.3.4:x", b"1.2.3.4:\xb2", b"\xff",
     b"198.51.100.1, unknown", b"10.0.0.7", b"10.0.0.7, 10.1.0.1", b"1" * 8000, b"," * 8000, b"10.0.0.7," * 900],
)  # fmt: skip
def test_a_header_without_an_address_leaves_the_proxys(field: bytes) -> None:
    assert PROXIED.of(scope("10.0.0.7", field)) == "10.0.0.7"
    assert PROXIED.of(scope("10.0.0.7")) == "10.0.0.7"


@given(st.lists(st.binary(max_size=300), max_size=3), ADDRESSES, st.lists(st.sampled_from([b"10.0.0.7", b"10.1.1.1"])))
def test_whatever_a_client_sends_before_its_proxy_appends_its_address(
    sent: list[bytes], client: Any, hops: list[bytes]
) -> None:
    appended = b", ".join([str(client).encode(), *hops[:10]])
    assert PROXIED.of(scope("10.0.0.7", *sent, appended)) == str(client)
    joined = b",".join([*sent, appended])
    assert PROXIED.of(scope("10.0.0.7", joined)) == str(client)


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_header_gives_an_address_that_is_no_proxys_or_the_peer(fields: list[bytes]) -> None:
    found = PROXIED.of(scope("10.0.0.7", *fields))
    assert found == "10.0.0.7" or not any(ipaddress.ip_address(found) in network for network in NETWORKS)


@pytest.mark.parametrize("proxy", ["", "proxy.example", "10.0.0.0/33", "10.0.0.7/24", "10.0.0.7:80", "all"])
def test_a_proxy_that_is_no_address_is_refused(proxy: str) -> None:
    with pytest.raises(UsageError, match=r"--proxy .* is neither an address nor a network"):
        Settings(Path(), proxies=("10.0.0.7", proxy))


@pytest.mark.parametrize("header", ["", "x forwarded", "x-forwarded-for:", "forwarded", "ä"])
def test_a_header_that_lists_no_addresses_is_refused(header: str) -> None:
    with pytest.raises(UsageError, match=r"--proxy-header .* must be a header that lists addresses"):
        Settings(Path(), proxies=PROXIES, proxy_header=header)


def test_a_header_without_a_proxy_is_refused() -> None:
    with pytest.raises(UsageError, match="--proxy-header goes with --proxy"):
        Settings(Path(), proxy_header="x-real-ip")
