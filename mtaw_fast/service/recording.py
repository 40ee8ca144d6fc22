"""The record of every ranking that is answered: which session got which items from which bundle, under which rules."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mtaw_fast.experiment.lines import RankingLine
from mtaw_fast.service.encoding import encoded
from mtaw_fast.service.feedback_store import FeedbackStore
from mtaw_fast.service.snapshot import Snapshot

_HASH_BYTES = 4


class Recorder:
    """Writes the record of rankings into the feedback log.

    store: None if the service keeps no feedback; nothing is recorded then. shares: of the sessions by the bundle's
    name, if several are served.
    """

    def __init__(self, store: FeedbackStore | None, shares: dict[str, float]) -> None:
        self._store, self._shares = store, shares

    def record(
        self,
        snapshot: Snapshot,
        route: str,
        session: str | None,
        recommendation: str,
        items: Sequence[Any],
        fallback: bool = False,
        rules: Any = None,
    ) -> None:
        """Record one ranking; see `RankingLine`. Call it on the event loop. rules: as the request has them."""
        if self._store is None:
            return
        line = RankingLine(
            time=time.time_ns() // 1_000_000,
            recommendation=recommendation,
            session=session or "",
            version=snapshot.version,
            bundle=snapshot.name or "",
            share=self._shares.get(snapshot.name or "", 1.0),
            rules=_name_of(rules),
            route=route,
            fallback=fallback,
            items=list(items),
        )
        self._store.record(encoded(line))


def _name_of(rules: Any) -> str:
    """Return the name of kept rules, and a hash of others; "" without rules."""
    if rules is None or isinstance(rules, str):
        return rules or ""
    digest = hashlib.blake2b(msgspec.json.encode(rules), digest_size=_HASH_BYTES)
    return f"#{digest.hexdigest()}"
