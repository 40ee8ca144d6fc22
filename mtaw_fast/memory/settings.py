"""The settings of the session memory's tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mtaw_fast.config import Config
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.memory_query import QuerySettings
from mtaw_fast.kernels.native.memory_tables import TableSettings

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How pairs of items in past sessions are counted, and how many are stored.

    window: largest distance in clicks of a pair in `next`, `fwd`, `bwd` and `rec`. span: largest distance of the first
    clicks on a pair in `ses` and `aa`. recency: sessions after which a pair's weight in `rec` has fallen to 1/e, at
    least 1; None: `recency_share` of the sessions that the tables are built from. Built tables store the number, so
    that an update does not change it. max_neighbors: stored neighbors of an item, the strongest; 0 stores all.
    max_postings: stored sessions of an item, the latest; 0 stores all. once_from: the index of the first session that
    counts a pair once (`MemoryTables`); None if no session does. Built tables store it.

    Raises UsageError on a value out of range.
    """

    window: int = 10
    span: int = 40
    recency_share: float = 0.1
    recency: float | None = None
    max_neighbors: int = 512
    max_postings: int = 500
    once_from: int | None = None

    def __post_init__(self) -> None:
        checks = {
            "window": is_count(self.window, 1),
            "span": is_count(self.span, 1),
            "recency_share": 0 < self.recency_share < math.inf,
            "recency": self.recency is None or 0 < self.recency < math.inf,
            "max_neighbors": is_count(self.max_neighbors, 0),
            "max_postings": is_count(self.max_postings, 0),
            "once_from": self.once_from is None or is_count(self.once_from, 0),
        }
        for name, is_valid in checks.items():
            if not is_valid:
                raise UsageError(f"memory: {name}={getattr(self, name)} is out of range; see MemorySettings")

    @property
    def native(self) -> TableSettings:
        """The settings of the native calls, for which `recency` must be a number."""
        assert self.recency is not None
        return TableSettings(
            self.window, self.span, self.recency, self.max_neighbors, self.max_postings, self.once_from
        )

    def resolved(self, n_sessions: int) -> MemorySettings:
        """Return the settings with `recency` as a number, for tables of `n_sessions` sessions."""
        if self.recency is not None:
            return self
        return replace(self, recency=max(self.recency_share * n_sessions, 1.0))


def memory_settings(config: Config) -> MemorySettings:
    """Return the tables' settings from those of a training."""
    return MemorySettings(
        window=config.memory.window,
        span=config.memory.span,
        recency_share=config.memory.recency,
        max_neighbors=config.memory.max_neighbors,
        max_postings=config.memory.max_postings,
    )


def query_settings(config: Config, timed: bool = False) -> QuerySettings:
    """Return the candidates' settings from those of a training. timed: the memory has trends."""
    memory = config.memory
    return QuerySettings(
        others=memory.cooccurrence_candidates,
        dense=memory.dense_candidates,
        trends=memory.trend_candidates if timed else 0,
        ranked=memory.ranked_candidates if timed else 0,
    )


def is_count(value: int, minimum: int) -> bool:
    """Whether a setting is a whole number from `minimum` to 2^31 - 1."""
    return isinstance(value, int) and minimum <= value <= _INT32_MAX
