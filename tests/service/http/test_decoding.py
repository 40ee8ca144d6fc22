"""How bodies arrive: in parts, too many at once, and larger than most."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.http import bodies
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Limits


def service_of(limit: int, held: int = 0) -> Any:
    """Return a service with a largest body, and with bytes of incomplete bodies that it holds."""
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    return SimpleNamespace(settings=SimpleNamespace(limits=Limits(body=limit)), metrics=metrics, partial_bodies=held)


def read(service: Any, *parts: bytes, length: str = "") -> bytes:
    """Return the body that arrives in parts."""
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
