"""Bodies that are refused while they arrive."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.http import decoding
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Limits


def test_a_body_for_which_there_is_no_memory_counts_as_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_PARTIAL_BODIES", 5)
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    service: Any = SimpleNamespace(settings=SimpleNamespace(limits=Limits()), metrics=metrics, partial_bodies=0)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"[1, 2,", "more_body": True}

    with pytest.raises(ServiceError, match="incomplete"):
        asyncio.run(decoding.read_body(receive, "", service))
    assert service.partial_bodies == 0
    assert 'mtaw_rejected_total{reason="overloaded"} 1\n' in metrics.text()
