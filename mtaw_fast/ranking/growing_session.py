"""A session that grows click by click, with a ranking at any moment."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Unpack

import numpy as np

from mtaw_fast.data.click_types import checked_types
from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.answer import Recommendations, timed
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.options import OptionKeywords, options_of, with_types
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.ranker import EncodedClicks
from mtaw_fast.system.fork_lock import ForkLock

_TYPE_BYTES = 8  # of a click's type: a reference, as equal texts are mostly one object


class GrowingSession:
    """One visitor's session, made by `Recommender.session`.

    Every ranking equals, to the bit, `Recommender.recommend` of all clicks so far. With the native encoder a click
    costs one step, not the whole session, up to config.model.max_session_length clicks; after that the window slides
    and is encoded again. Thread-safe; calls on one session wait for each other. Memory at d = 100: under 512 bytes a
    click.

    pipeline: returns the current state of the catalog. observe: called with the external ids of clicks, and the type of
    each or None, for learning. log_position: returns the log position that a ranking from now on includes. origin: the
    recommender that made it, and the session's id; a session is pickled and deep-copied as these and its clicks, which
    the copy does not send to `observe` again.

    Examples
    --------
    >>> visit = rec.session()
    >>> visit.click("sku-9", type="view")
    >>> out = visit.click("sku-4").recommend(k=20)
    """

    __slots__ = (
        "_clicks", "_lock", "_log_position", "_observe", "_origin", "_pipeline", "_state", "_types", "_unknown"
    )  # fmt: skip

    def __init__(
        self,
        pipeline: Callable[[], Pipeline],
        observe: Callable[[Sequence[Any], Sequence[str | None]], object] | None = None,
        log_position: Callable[[], str] | None = None,
        origin: tuple[Any, str | None] | None = None,
    ) -> None:
        self._pipeline, self._observe, self._log_position, self._origin = pipeline, observe, log_position, origin
        self._clicks = array("i")
        self._types: list[str | None] = []  # of the known clicks; one more if a click was not finished
        self._unknown: list[tuple[int, Any, str | None]] = []  # (known clicks before it, the click, its type)
        self._state: EncodedClicks | None = None
        self._lock = ForkLock()

    def click(self, *items: Any, type: str | None = None) -> GrowingSession:
        """Append clicks and return the session.

        items: external ids, oldest first; ids that the catalog does not know count as unknown. type: their type, such
        as "cart", for a ranker that reads types.

        Raises UsageError if an item is a list of ids, or the type is no text. If the clicks are learned, raises
        DataError on a value that is not an id and LearnError if they cannot be stored; none is appended then.
        """
        return self.click_typed(items, checked_types("type", [type] * len(items), len(items)))

    def click_typed(self, items: Sequence[Any], types: Sequence[str | None]) -> GrowingSession:
        """Append clicks as `click` does, each with its own type, a text or None."""
        for item in items:
            if isinstance(item, (list, tuple, set, np.ndarray)):
                raise UsageError(f"click takes ids, not a {type(item).__name__}; write click(*ids)")
        with self._lock:
            if self._observe is not None and items:
                self._observe(items, types)
            self._append(self._pipeline().catalog, items, types)
        return self

    def _append(self, catalog: Catalog, items: Sequence[Any], types: Sequence[str | None]) -> None:
        for item, type, internal in zip(items, types, catalog.ids.lookup(items).tolist(), strict=True):
            if internal < 0:
                self._unknown.append((len(self._clicks), item, type))
            else:
                self._types[len(self._clicks) :] = [type]  # first: without its click it counts for nothing
                self._clicks.append(internal)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise UsageError(
                "this session was not made by Recommender.session, so it cannot be pickled; make one there"
            )
        with self._lock:
            return _restored, (*self._origin, *self._all(self._pipeline().catalog))

    def _all(self, catalog: Catalog) -> tuple[list[Any], list[str | None]]:
        """Return all clicks as external ids, and their types."""
        known = catalog.ids.external(self._known())
        clicks: list[Any] = []
        types: list[str | None] = []
        done = 0
        for n_before, item, type in self._unknown:
            clicks += [*known[done:n_before], item]
            types += [*self._types[done:n_before], type]
            done = n_before
        return [*clicks, *known[done:]], [*types, *self._types[done : len(known)]]

    def _known(self) -> np.ndarray:
        """Return int32[m]: the known clicks, copied.

        The copy goes through bytes: if another thread forks while an array's buffer is exported, the array can never
        grow in the child.
        """
        return np.frombuffer(self._clicks.tobytes(), dtype=np.int32).copy()

    def _look_up_again(self, catalog: Catalog) -> None:
        """Give the clicks the present internal ids of their items, if a catalog knows other items than when they came.

        It may know more items, have other internal ids for some (`Catalog.renewed`), or not know some any more.
        """
        if (
            (self._unknown and catalog.ids.lookup([item for _, item, _ in self._unknown]).max() >= 0)
            or (catalog.renewed and not catalog.renewed.keys().isdisjoint(self._clicks))
            or (catalog.unknown and not catalog.unknown.isdisjoint(self._clicks))
        ):
            renewed = GrowingSession(self._pipeline)  # apart: whoever forks or interrupts finds a whole session
            renewed._append(catalog, *self._all(catalog))
            self._state = None
            self._clicks, self._types, self._unknown = renewed._clicks, renewed._types, renewed._unknown

    def recommend(self, k: int = 20, *, timings: bool = False, **options: Unpack[OptionKeywords]) -> Recommendations:
        """Return the k best next items now; parameters and errors as in `Recommender.recommend`."""
        start = perf_counter_ns()
        with self._lock:  # read first, so that the catalog is not older than the clicks
            log_position = None if self._log_position is None else self._log_position()
            pipeline = self._pipeline()
            checked_options = options_of(pipeline.catalog, k, **options)
            ready = perf_counter_ns()
            self._look_up_again(pipeline.catalog)
            clicks, unknown = self._known(), [item for _, item, _ in self._unknown]
            types = self._types[: len(clicks)], [type for *_, type in self._unknown]
            checked_options = with_types(checked_options, pipeline.catalog, *types)
            state, self._state = self._state, None  # a call that fails midway leaves an invalid state
            answer, times, self._state = pipeline.recommend_growing(
                clicks, unknown, state, checked_options, log_position
            )
        answer.unknown_values = checked_options.unknown_values
        return timed(answer, times, start, ready) if timings else answer

    def __len__(self) -> int:
        """How many clicks the catalog knows."""
        return len(self.clicks)

    @property
    def clicks(self) -> list[Any]:
        """The clicks that the catalog knows, as external ids, oldest first."""
        with self._lock:
            catalog = self._pipeline().catalog
            self._look_up_again(catalog)
            return catalog.ids.external(self._known())

    @property
    def n_bytes(self) -> int:
        """Bytes that grow with the clicks: their ids and types, and the native encoder's state."""
        with self._lock:
            state_bytes = 0 if self._state is None else self._state.session.n_bytes
            return state_bytes + len(self._clicks) * (self._clicks.itemsize + _TYPE_BYTES)


def _restored(recommender: Any, id: str | None, clicks: list[Any], types: list[str | None]) -> GrowingSession:
    """Return a session that already contains these clicks, each with its type."""
    session: GrowingSession = recommender.session(id=id)
    session._append(recommender.catalog, clicks, types)
    return session
