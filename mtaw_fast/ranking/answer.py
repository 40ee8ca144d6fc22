"""What a Recommender answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

import numpy as np

from mtaw_fast.ranking.reasons import Reason


@dataclass(frozen=True, slots=True, eq=False)
class Recommendations:
    """The ranking for one session, best first.

    items: external ids. scores: float32[len(items)], the model's logits or its ranker's scores (click counts where
    `fallback`, cosines from `similar_items`).
    unknown: the session's clicks that the catalog does not know, in order.
    fallback: True where no click was known and the popularity ranking was given.
    timings: microseconds by stage, where asked for. repeats: bool[len(items)], whether the item is in
    the session, where asked for. reasons: why each item, where asked for; none where `fallback`.
    """

    items: list[Any]
    scores: np.ndarray
    unknown: list[Any]
    fallback: bool = False
    timings: Mapping[str, float] | None = None
    repeats: np.ndarray | None = None
    reasons: list[Reason] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def timed(self, stages: Mapping[str, float], start: int) -> Recommendations:
        """The same with timings: `stages` in microseconds, all since `start` (perf_counter_ns) as total, and what
        the stages leave of it as assemble."""
        total = (perf_counter_ns() - start) / 1000
        return replace(self, timings={**stages, "assemble": total - sum(stages.values()), "total": total})
