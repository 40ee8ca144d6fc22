"""What a Recommender answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

import numpy as np

from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.ranker import Times
from mtaw_fast.ranking.reasons import Reason, reasons_of


@dataclass(frozen=True, slots=True, eq=False)
class Recommendations:
    """The ranking for one session, best first; its length is that of `items`.

    Attributes
    ----------
    items : list of ids
        External ids.
    scores : float32[len(items)]
        The model's logits or its ranker's scores; where `fallback`, click counts, or how fast the items rise where the
        model knows of time; cosines from `similar_items`.
    unknown : list
        The session's clicks that the catalog does not know, in order.
    fallback : bool, default False
        True where no click was known and the popularity ranking was given.
    timings : mapping of str to float, or None
        Microseconds by stage, where asked for: lookup, encode, retrieve, memory (where there is one), assemble, total.
    repeats : bool[len(items)] or None
        Whether each item is in the session, where asked for.
    reasons : list of Reason, or None
        Why each item, where asked for and not `fallback`.
    learned : str or None
        The position in the log up to which the ranking knows every event at least, where a recommender learns.
    """

    items: list[Any]
    scores: np.ndarray
    unknown: list[Any]
    fallback: bool = False
    timings: Mapping[str, float] | None = None
    repeats: np.ndarray | None = None
    reasons: list[Reason] | None = None
    learned: str | None = None

    def __len__(self) -> int:
        return len(self.items)


def assembled(
    catalog: Catalog,
    row: tuple[np.ndarray, np.ndarray],
    clicks: np.ndarray,
    unknown: list[Any],
    repeats: bool,
    reasons: bool = False,
) -> Recommendations:
    """One row of a ranking (ids int32[k], scores float32[k]) as an answer, padding cut off.

    clicks: the session's known ones, int32[m]; where there is none the row is the popularity ranking.
    """
    ids, scores = unpadded(*row)
    return Recommendations(
        catalog.ids.external(ids),
        scores.copy(),
        unknown,
        fallback=len(clicks) == 0,
        repeats=np.isin(ids, clicks) if repeats else None,
        reasons=reasons_of(catalog, clicks, ids) if reasons and len(clicks) else None,
    )


def unpadded(ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A row of a ranking without its padding: (ids int32[n], scores float32[n])."""
    count = int(np.count_nonzero(ids >= 0))
    return ids[:count], scores[:count]


def timed(answer: Recommendations, times: Times | None, start: int, ready: int) -> Recommendations:
    """The answer with its timings in microseconds.

    times: of the ranker's stages, None where nothing was ranked. start, ready: when the call began and when its
    arguments were read (perf_counter_ns). What no stage accounts for of the total is called assemble.
    """
    lookup, encode, retrieve, memory = times or (0.0, 0.0, 0.0, None)
    stages = {"lookup": (ready - start) / 1000 + lookup, "encode": encode, "retrieve": retrieve}
    if memory is not None:
        stages["memory"] = memory
    total = (perf_counter_ns() - start) / 1000
    return replace(answer, timings={**stages, "assemble": total - sum(stages.values()), "total": total})
