"""A session that is still going on: click by click, with a ranking at any moment."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Unpack

import numpy as np

from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.answer import Recommendations, timed
from mtaw_fast.ranking.options import OptionKeywords, options_of
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.ranker import GrowingState
from mtaw_fast.system.fork_lock import ForkLock


class GrowingSession:
    """One visitor's session, made by `Recommender.session`.

    Every ranking equals, to the bit, `Recommender.recommend` of all clicks so far. With the native encoder a click
    costs one step and not the whole session, up to config.max_len clicks; past them the window slides and is encoded
    again. Thread-safe; calls on one session wait for each other. Memory: at d = 100 under 512 bytes a click.

    Parameters
    ----------
    pipeline : callable
        Gives the state of the catalog to rank by, at every call.
    observe : callable, optional
        Is told the external ids of every click, so that others learn from them.
    log_position : callable, optional
        Gives the position in the log that a ranking from now on knows; see `Recommendations.log_position`.
    origin : (Recommender, str or None), optional
        Who made it, and the session's id. A session pickles and deep-copies as these and its clicks, which teach nobody
        again.

    Examples
    --------
    >>> visit = rec.session()
    >>> visit.click("sku-9")
    >>> out = visit.click("sku-4").recommend(k=20)
    """

    __slots__ = ("_clicks", "_lock", "_log_position", "_observe", "_origin", "_pipeline", "_state", "_unknown")

    def __init__(
        self,
        pipeline: Callable[[], Pipeline],
        observe: Callable[[Sequence[Any]], object] | None = None,
        log_position: Callable[[], str] | None = None,
        origin: tuple[Any, str | None] | None = None,
    ) -> None:
        self._pipeline, self._observe, self._log_position, self._origin = pipeline, observe, log_position, origin
        self._clicks = array("i")
        self._unknown: list[tuple[int, Any]] = []  # (known clicks before it, the click)
        self._state: GrowingState | None = None
        self._lock = ForkLock()

    def click(self, *items: Any) -> GrowingSession:
        """Append clicks.

        Parameters
        ----------
        *items : ids
            External ids, oldest first; those that the catalog does not know count as unknown.

        Returns
        -------
        GrowingSession
            The session itself.

        Raises
        ------
        UsageError
            Where an item is a list of ids.
        DataError, LearnError
            Where the session's clicks teach, on what is no id, and where they could not be kept; none is appended.
        """
        for item in items:
            if isinstance(item, (list, tuple, set, np.ndarray)):
                raise UsageError(f"click takes the ids themselves, not a {type(item).__name__}; write click(*ids)")
        with self._lock:
            if self._observe is not None and items:
                self._observe(items)
            self._append(items)
        return self

    def _append(self, items: Sequence[Any]) -> None:
        found = self._pipeline().catalog.ids.lookup(items)
        for item, internal in zip(items, found.tolist(), strict=True):
            if internal < 0:
                self._unknown.append((len(self._clicks), item))
            else:
                self._clicks.append(internal)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise UsageError("this session was not made by Recommender.session, so nothing could make it again")
        with self._lock:
            known = self._pipeline().catalog.ids.external(self._known())
            clicks: list[Any] = []
            taken = 0
            for place, item in self._unknown:
                clicks += [*known[taken:place], item]
                taken = place
        return _made_again, (*self._origin, [*clicks, *known[taken:]])

    def _known(self) -> np.ndarray:
        """int32[m]: the known clicks, copied.

        By way of bytes: an array that lends its buffer out while another thread forks can never grow in the child.
        """
        return np.frombuffer(self._clicks.tobytes(), dtype=np.int32).copy()

    def _recall(self, pipeline: Pipeline) -> None:
        """Put clicks that the catalog has come to know into their places."""
        found = pipeline.catalog.ids.lookup([item for _, item in self._unknown]).tolist()
        if max(found) < 0:
            return
        clicks, unknown, taken = array("i"), [], 0
        for (place, item), internal in zip(self._unknown, found, strict=True):
            clicks.extend(self._clicks[taken:place])
            taken = place
            if internal < 0:
                unknown.append((len(clicks), item))
            else:
                clicks.append(internal)
        clicks.extend(self._clicks[taken:])
        self._clicks, self._unknown, self._state = clicks, unknown, None

    def recommend(self, k: int = 20, *, timings: bool = False, **options: Unpack[OptionKeywords]) -> Recommendations:
        """The k best next items now.

        Parameters
        ----------
        k, timings, exclude, allow, exclude_seen, filter, at, repeats, reasons
            As in `Recommender.recommend`.

        Returns
        -------
        Recommendations

        Raises
        ------
        UsageError, ItemTypeError
            As `Recommender.recommend` does.
        """
        start = perf_counter_ns()
        with self._lock:  # first, so that the catalog is no older than the clicks
            log_position = None if self._log_position is None else self._log_position()
            pipeline = self._pipeline()
            checked = options_of(pipeline.catalog, k, **options)
            ready = perf_counter_ns()
            if self._unknown:
                self._recall(pipeline)
            clicks, unknown = self._known(), [item for _, item in self._unknown]
            state, self._state = self._state, None  # a call that fails midway leaves no state to trust
            answer, times, self._state = pipeline.recommend_growing(clicks, unknown, state, checked, log_position)
        return timed(answer, times, start, ready) if timings else answer

    def __len__(self) -> int:
        """How many clicks the catalog knows."""
        return len(self._clicks)

    @property
    def clicks(self) -> list[Any]:
        """The clicks that the catalog knows, as external ids, oldest first."""
        with self._lock:
            internal = self._known()
        return self._pipeline().catalog.ids.external(internal)

    @property
    def n_bytes(self) -> int:
        """Memory that grows with the clicks: their ids, and what the native encoder keeps of them."""
        with self._lock:
            kept = 0 if self._state is None else self._state.n_bytes
            return kept + self._clicks.buffer_info()[1] * self._clicks.itemsize


def _made_again(recommender: Any, id: str | None, clicks: list[Any]) -> GrowingSession:
    """A session with these clicks already in it."""
    session: GrowingSession = recommender.session(id=id)
    session._append(clicks)
    return session
