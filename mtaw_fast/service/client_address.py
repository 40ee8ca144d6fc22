"""The address that a request comes from: its connection's, or the one that a named proxy passes on.

Any client can send the header of a proxy. So it is read on connections of named proxies alone, and from the right: each
proxy appends the address of its own client, and what is left of the first address that is no named proxy's may be made
up.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from mtaw_fast.service.settings import Settings, network_of

_LONGEST = 64  # bytes of an address, with brackets, port and quotes
_MOST = 32  # addresses that are read: hostile headers have thousands
_FORM = re.compile(r'"?(?:([\d.]+)(?::\d+)?|\[([^\]]+)\](?::\d+)?|([^\[\]"]+))"?', re.ASCII)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """Finds the address of a request's client. settings: name the proxies and their header."""

    def __init__(self, settings: Settings) -> None:
        self._proxies = [network_of(proxy) for proxy in settings.proxies]
        self._header = settings.proxy_header.encode()

    def of(self, scope: Any) -> str:
        """Return the client's address for the request of an ASGI scope; "" if its connection has none.

        It is the peer's own unless that is a named proxy, and sent the header with an address that is none.
        """
        client = scope.get("client")
        peer: str = client[0] if client else ""
        if not self._proxies or not self._is_proxy(_address(peer.encode())):
            return peer
        fields = [value for name, value in scope["headers"] if name == self._header]
        for field in reversed(b",".join(fields).rsplit(b",", _MOST)):
            if not field.strip():
                continue
            address = _address(field.strip())
            if address is None:
                break
            if not self._is_proxy(address):
                return str(address)
        return peer

    def _is_proxy(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._proxies)


def _address(field: bytes) -> _Address | None:
    """Return an address as a proxy writes it: it may be quoted, and have a port. None if it is not one."""
    form = _FORM.fullmatch(field.decode("latin-1")) if len(field) <= _LONGEST else None
    try:
        address = ipaddress.ip_address("" if form is None else form[form.lastindex or 0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
