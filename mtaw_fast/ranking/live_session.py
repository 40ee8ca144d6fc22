"""A session that is still going on: click by click, with a ranking at any moment."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable
from time import perf_counter_ns
from typing import Any

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.conditions import Conditions, checked_k, conditions_of
from mtaw_fast.ranking.pipeline import NativeRanker, Served, add_times, assembled, explained, most_popular


class LiveSession:
    """One visitor's session, made by `Recommender.session()`.

        visit = rec.session()
        visit.click("sku-9")
        out = visit.click("sku-4").recommend(k=20)

    Every ranking equals, to the bit, `Recommender.recommend` of all clicks so far. With the native encoder a click
    costs one step and not the session anew, up to config.max_len clicks; past them the window slides and is encoded
    anew. Thread-safe; calls on one session wait for each other. Memory: at d = 100 under 512 bytes a click.
    """

    __slots__ = ("_clicks", "_encoded", "_lock", "_served", "_state", "_unknown")

    def __init__(self, served: Callable[[], Served]) -> None:
        self._served = served
        self._clicks = array("i")
        self._unknown: list[Any] = []
        self._state: Any = None  # the native encoder's, which holds the first `_encoded` clicks
        self._encoded = 0
        self._lock = threading.Lock()

    def click(self, *items: Any) -> LiveSession:
        """Append clicks by external id, oldest first; those that the catalog does not know count as unknown.

        Returns the session itself. Raises UsageError where an item is a list of ids.
        """
        for item in items:
            if isinstance(item, (list, tuple, set, np.ndarray)):
                raise UsageError(f"click takes the ids themselves, not a {type(item).__name__}; write click(*ids)")
        found = self._served().catalog.ids.lookup(items)
        with self._lock:
            for item, internal in zip(items, found.tolist(), strict=True):
                if internal < 0:
                    self._unknown.append(item)
                else:
                    self._clicks.append(internal)
        return self

    def recommend(
        self,
        k: int = 20,
        *,
        exclude: Iterable[Any] = (),
        allow: Iterable[Any] | None = None,
        exclude_seen: bool = False,
        filter: Filter | None = None,
        timings: bool = False,
        repeats: bool = False,
        reasons: bool = False,
    ) -> Recommendations:
        """The k best next items now; arguments, answer and errors as `Recommender.recommend`'s."""
        start = perf_counter_ns()
        served = self._served()
        catalog, ranker = served.catalog, served.ranker
        k = checked_k(k, catalog.n_items)
        conditions = conditions_of(catalog, exclude, allow, filter, exclude_seen)
        stages = {"lookup": (perf_counter_ns() - start) / 1000, "encode": 0.0, "retrieve": 0.0}
        with self._lock:
            unknown = list(self._unknown)
            if len(self._clicks) and isinstance(ranker, NativeRanker):
                answer = self._native(ranker, k, conditions, unknown, stages, repeats)
                if reasons:
                    answer = explained(catalog, answer, np.array(self._clicks, dtype=np.int32))
            else:
                clicks = np.array(self._clicks, dtype=np.int32)
                if len(clicks):
                    session = Sessions(clicks, np.array([0, len(clicks)], dtype=np.int64))
                    ids, scores = ranker.rank(session, k, conditions, stages)
                    row = ids[0], scores[0]
                else:
                    row = most_popular(catalog, k, conditions)
                answer = assembled(catalog, row, clicks, unknown, repeats, reasons)
        return answer.timed(stages, start) if timings else answer

    def _native(
        self,
        ranker: NativeRanker,
        k: int,
        conditions: Conditions,
        unknown: list[Any],
        stages: dict[str, float],
        repeats: bool,
    ) -> Recommendations:
        """The native ranking after the last click; clicks that the state lacks are appended on the way."""
        if self._state is None:
            self._state, self._encoded = ranker.new_state(), 0
        state, self._state = self._state, None  # a call that fails midway leaves no state to trust
        items, scores, _, repeated, times = ranker.engine.recommend_live(
            state, np.frombuffer(self._clicks, dtype=np.int32), len(self._clicks) - self._encoded, k,
            conditions.excluded, conditions.bits, conditions.exclude_seen, repeats,
        )  # fmt: skip
        self._state, self._encoded = state, len(self._clicks)
        add_times(stages, times)
        return Recommendations(items, scores, unknown, repeats=repeated)

    def __len__(self) -> int:
        """How many clicks the catalog knows."""
        return len(self._clicks)

    @property
    def clicks(self) -> list[Any]:
        """The clicks that the catalog knows, as external ids, oldest first."""
        with self._lock:
            internal = np.array(self._clicks, dtype=np.int32)
        return self._served().catalog.ids.external(internal)

    @property
    def n_bytes(self) -> int:
        """Memory that grows with the clicks: their ids, and what the native encoder keeps of them."""
        with self._lock:
            kept = 0 if self._state is None else self._state.n_bytes
            return kept + self._clicks.buffer_info()[1] * self._clicks.itemsize
