"""Trends: the tables of decayed sums and the clicks since, queried without the GIL.

    trends = Trends(arrays, half_lives=HALF_LIVES, window=10, max_neighbors=256, capacity=n_items + 65536)
    trends.click(handles, items, times)
    ids = trends.candidates(items, begins, ends, now, n=140)
    values = trends.features(items, begins, ends, now, ids)

Axes: N items of the tables, V values of the context, E clicks, Q prefixes, C candidates, F features. Times are int64 ms
since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.trend_tables import HALF_LIVES

__all__ = ["ItemContent", "TrendCounters", "Trends", "feature_names"]

MAX_CATEGORIES = 4  # columns of an item table


def feature_names() -> tuple[str, ...]:
    """Return the F features' names, those of a query first; `kernels/native/trends/features.hpp` has the formulas."""
    return _native.trend_feature_names()


@dataclass(frozen=True, slots=True)
class TrendCounters:
    """Counters of the clicks since the tables were built.

    clicks: counted now, without those of forgotten sessions. clamped: clicks whose time was further ahead of their
    arrival than allowed, or before 1970. late: clicks that came after a later one of their session. cut: pairs dropped
    from rows that had become too long. moves: of a half-life's t0. sessions: that can be forgotten. bytes: memory,
    about. newest: the latest click's time, in ms.
    """

    clicks: int
    clamped: int
    late: int
    cut: int
    moves: int
    sessions: int
    bytes: int
    newest: int


class ItemContent:
    """Columns of an item table as the features read them; immutable, and kept by reference.

    categories: int32[n] codes of up to 4 columns, -1 if missing; items from n on have none. created: int64[n], a time
    in ms, the least int64 if missing; or None. Raises ValueError on columns of different lengths, or too many.
    """

    def __init__(self, categories: Sequence[np.ndarray], created: np.ndarray | None = None) -> None:
        self.native = _native.ItemContent(list(categories), created)


class Trends:
    """Tables of decayed sums plus the clicks since. Thread-safe; readers wait for at most 64 clicks at a time.

    The same calls in the same order give the same bits, whatever batches the clicks come in.

    arrays: as `build_trends` makes them, checked by `check_trends`; kept by reference. half_lives, window,
    max_neighbors: those that they were built with. capacity: ids of clicks and candidates are in 0..capacity-1; at
    least N. ahead: ms that a click's time may be later than its arrival; one that is further ahead takes the latest
    time allowed. row_neighbors: of an item, since the tables: a longer row is cut to the strongest half of them. Tables
    built from the sessions have all of them again. Of a row and the tables' together, queries read the strongest
    `max_neighbors`. isa: the instruction set, by default the process's own; all give the same bits. once: whether
    sessions count a pair once, whatever they repeat: at the first click on each item. To an item's clicks they add
    three at most.

    Raises ValueError on arrays that do not fit together or a setting out of range.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        half_lives: Sequence[int] = HALF_LIVES,
        window: int = 10,
        max_neighbors: int = 256,
        capacity: int,
        ahead: int = 300_000,
        row_neighbors: int = 2048,
        isa: str | None = None,
        once: bool = False,
    ) -> None:
        self.capacity = capacity
        self.n_context = len(arrays.get("context_sizes", ()))  # columns
        self.native = _native.Trends(
            dict(arrays), list(half_lives), window, max_neighbors, capacity, ahead, row_neighbors, isa, once
        )

    def click(
        self,
        handles: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        arrivals: np.ndarray | None = None,
        context: np.ndarray | None = None,
    ) -> None:
        """Add clicks, in order, of the sessions `handles` int64[E]; a new handle starts one.

        A click that is earlier than its session's last one is inserted by its time, at most 512 clicks before the
        session's end. Its age has no other bound, since old weights only become small.

        items: int32[E]. times: int64[E]. arrivals: int64[E], when the log received each; None trusts the times.
        context: uint16[E, C], codes of the clicks' visits; None: none is known.

        Raises IndexError on an item outside 0..capacity-1; then no click is added.
        """
        self.native.click(handles, items, times, arrivals, context)

    def forget(self, handle: int) -> bool:
        """Remove a session's clicks: its items are as if it never was. False if there is no such session."""
        return self.native.forget(handle)

    def forget_in_tables(
        self,
        items: np.ndarray,
        times: np.ndarray,
        remaining: Mapping[str, np.ndarray],
        ids: np.ndarray,
        context: np.ndarray | None = None,
        *,
        once: bool = False,
    ) -> None:
        """Remove a session of the tables with the clicks items int32[m], times int64[m].

        remaining: what `build_trends` makes, with the tables' settings and newest click, of all sessions that are left
        with one of its items. Item i of these arrays is ids[i], int32, ascending. Their rows of the session's items
        replace the tables'. context: uint16[m, C], codes of its visit, as the tables count them. once: whether these
        count a pair of it once.

        Raises ValueError or IndexError on arrays that do not fit together, or an item or time out of range; then
        nothing changes.
        """
        self.native.forget_in_tables(items, times, dict(remaining), ids, once, context)

    def candidates(
        self, items: np.ndarray, begins: np.ndarray, ends: np.ndarray, now: np.ndarray, n: int
    ) -> np.ndarray:
        """Return the best n items of each prefix by the decayed pre-score, and the 50 most popular ones.

        items: int32[T]; prefix q is items[begins[q]:ends[q]] (int64[Q]), not empty; its latest 10 distinct items count.
        now: int64[Q], the moments of the requests; one before the newest click counts as that. The result, int32[Q, n +
        50], has no item twice and none of the prefix's latest 10; padded with -1.
        """
        return self.native.candidates(items, begins, ends, now, n)

    def features(
        self,
        items: np.ndarray,
        begins: np.ndarray,
        ends: np.ndarray,
        now: np.ndarray,
        candidates: np.ndarray,
        times: np.ndarray | None = None,
        context: np.ndarray | None = None,
        content: ItemContent | None = None,
    ) -> np.ndarray:
        """Return the features of candidates of prefixes: float32[Q, C, F], 0 if a candidate is -1.

        items, begins, ends, now: as `candidates`. candidates: int32[Q, C], distinct in a row, padded with -1. times:
        int64[T], of the clicks, -1 where unknown. context: uint16[Q, columns], codes of the visits; None: none is
        known. content: adds the features of the items' content. F: those of `feature_names`, then the side features
        (`trends/features.hpp`) of context, if the tables have any, and of content.
        """
        native_content = None if content is None else content.native
        return self.native.features(items, begins, ends, now, candidates, times, context, native_content)

    def rising(self, now: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """List the k <= 256 items that are clicked most now, compared with the last day: (int32[k], float32[k]).

        Items and scores, best first; fewer if there are not so many. Of the items that were clicked since the last
        multiple of 10 s, and the 256 that were most popular then, or when a session was forgotten later.
        """
        return self.native.rising(now, k)

    def row(self, item: int, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an item's neighbors and the decayed sums with each at `now`: (int32[n], float64[n, 10])."""
        return self.native.row(item, now)

    def counts(self, items: np.ndarray, now: int) -> np.ndarray:
        """Return float32[E, 16]: decayed counts of all and of later clicks, seconds since the first and last click."""
        return self.native.counts(items, now)

    def context(self, item: int, now: int) -> np.ndarray:
        """Return float32[V]: the decayed clicks on an item at `now` in visits with each value of the context."""
        return self.native.context(item, now)

    def sessions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the sessions since, by their last click, ties by handle.

        (handles int64[S], items int32[T], times int64[T] as they were taken, offsets int64[S + 1]).
        """
        return self.native.sessions()

    @property
    def counters(self) -> TrendCounters:
        """Counters of the clicks since the tables were built."""
        return TrendCounters(**self.native.counters())

    def nth_newest(self, rank: int) -> int:
        """Return the last click of the item that comes `rank`-th by it, from 0, among those clicked since the tables
        were built; -1 if these are fewer."""
        return self.native.nth_newest(rank)
