"""What one process has learned from the log: the delta on top of the model's tables, and the new items.

Every process that has read a log to the same position holds the same state to the bit, whatever the sizes of its reads.
Axes: N items of the model, M new items after them, d dimensions, P neighbors of an item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.cold_start import add_prior, memory_with_delta
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.online.state.new_items import evidence_vector
from mtaw_fast.ranking.catalog import Catalog

_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")


class OnlineState:
    """Applies events to a model's session memory. One thread applies; any number rank with `delta` meanwhile.

    Parameters
    ----------
    model : Model
        With a session memory.
    limits : LearningLimits
        Limits on what is learned from whom.
    since : int, optional
        See `EventProcessor`.

    Raises
    ------
    ValueError
        If the model has no session memory.
    """

    def __init__(self, model: Model, limits: LearningLimits, since: int | None = None) -> None:
        self.model, self._limits, self._since = model, limits, since
        self.memory, self.delta = memory_with_delta(model, limits.new_items)
        # Trends are learned too if the model's ranker reads them.
        self.trends = None if model.trends is None else model.trends.live(self.delta.n_catalog)
        self.event_processor = EventProcessor(model, limits, since)
        self._n_prior_sessions = 0
        self._norm = np.float32(mean_norm(model.weights["item_embedding"]))
        self._vectors = np.zeros((0, model.config.model.embedding_dim), dtype=np.float32)
        self.event_processor.start(self)

    def restarted(self) -> OnlineState:
        """Return a state of the same model and limits that has learned nothing and keeps the internal ids of new items.

        Sessions and filters hold these ids, and the log may have lost the event that added an item.
        """
        state = OnlineState(self.model, self._limits, self._since)
        state.event_processor.keep_items(self.event_processor)
        return state

    def apply(self, entries: Sequence[LogEntry]) -> None:
        """Learn from events in the log's order."""
        self.event_processor.process(entries, self)

    # As the sink of the event processor

    def click(self, handles: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """See `EventSink.click`."""
        self.delta.click(handles, items)
        if self.trends is not None:
            self.trends.click(handles, items, times)

    def forget(self, handle: int) -> None:
        """See `EventSink.forget`."""
        self.delta.forget(handle)
        if self.trends is not None:
            self.trends.forget(handle)

    def forget_in_tables(self, place: int) -> None:
        """See `EventSink.forget_in_tables`."""
        if self.delta.forget_base(place) and self.trends is not None:
            sessions = self.model.sessions
            clicks = slice(sessions.offsets[place], sessions.offsets[place + 1])
            assert sessions.times is not None
            handle = -1 - place  # the tracker's handles are not negative
            self.trends.resume(handle, sessions.items[clicks].copy(), sessions.times[clicks].copy())
            self.trends.forget(handle)

    def add_prior(self, item: int, neighbor: int) -> None:
        """See `EventSink.add_prior` and `online.state.cold_start`."""
        self._n_prior_sessions = add_prior(self.delta, item, neighbor, self._n_prior_sessions)

    def refresh_vectors(self) -> None:
        """See `EventSink.refresh_vectors`: compute the vectors of items that have enough new evidence."""
        new_items = self.event_processor.new_items
        chosen = new_items.due_for_update()
        if not chosen:
            return
        vectors = self._padded_vectors(len(new_items))
        for place in chosen:
            vectors[place] = self._vector(place, vectors)
        self._vectors, self.event_processor.changed = vectors, True

    def _vector(self, place: int, new_vectors: np.ndarray) -> np.ndarray:
        one = self.event_processor.new_items[place]
        neighbors, values = self.delta.row(self.model.n_items + place)
        weights = values[:, _FWD] + values[:, _BWD]
        given = None if one.vector is None else np.array(one.vector, dtype=np.float32)
        if given is None and one.neighbors:
            given = self._rows(np.array(one.neighbors), new_vectors).astype(np.float64).mean(axis=0)
        return evidence_vector(weights, self._rows(neighbors, new_vectors), given)

    def _rows(self, items: np.ndarray, new_vectors: np.ndarray) -> np.ndarray:
        """Return float32[.., d]: the vectors of internal ids."""
        base = self.model.item_vectors
        inside = items < len(base)
        rows = np.empty((len(items), base.shape[1]), dtype=np.float32)
        rows[inside] = base[items[inside]]
        rows[~inside] = new_vectors[items[~inside] - len(base)]
        return rows

    # For serving

    @property
    def changed(self) -> bool:
        """Whether `catalog` would differ from the one it returned last."""
        return self.event_processor.changed or self._counts_alone

    @property
    def _counts_alone(self) -> bool:
        """Whether the only news is clicks on known items, and popularity needs a new catalog for them.

        Trends know such clicks at once; popularity is a part of the catalog.
        """
        return self.trends is None and self.event_processor.counted and not self.event_processor.changed

    @property
    def can_wait(self) -> bool:
        """Whether the only news is clicks on known items: they change no ranking except the one by popularity."""
        return not self.event_processor.changed

    def catalog(self) -> Catalog:
        """Return the catalog to serve: immutable, except that the memory it refers to keeps learning."""
        event_processor, counts_alone = self.event_processor, self._counts_alone
        event_processor.changed = event_processor.counted = False
        size = self.model.n_items + len(event_processor.new_items)
        catalog = Catalog.learned(
            self.model,
            event_processor.new_items.places,
            self._padded_vectors(len(event_processor.new_items)),
            self._norm,
            event_processor.gone[:size].copy(),
            event_processor.clicks[:size].copy(),
            self.memory,
            self.trends,
        )
        if counts_alone:
            _ = catalog.most_clicked  # sort here: such catalogs are frequent, and no ranking may wait for it
        return catalog

    def _padded_vectors(self, count: int) -> np.ndarray:
        vectors = np.zeros((count, self.model.config.model.embedding_dim), dtype=np.float32)
        vectors[: len(self._vectors)] = self._vectors
        return vectors
