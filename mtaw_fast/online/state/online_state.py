"""What one process has learned from the log: the delta on top of the model's tables, and the new items.

Every process that has read a log to the same position holds the same state to the bit, whatever the sizes of its reads.
Axes: N items of the model, M new items after them, d dimensions, P neighbors of an item.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from mtaw_fast.kernels.native.memory_tables import COUNTS, PAIR_KINDS
from mtaw_fast.kernels.native.trend_tables import build_trends
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.cold_start import add_prior, memory_with_delta
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.online.state.new_items import evidence_vector
from mtaw_fast.ranking.catalog import Catalog

_WAITING = 65_536  # sessions that are remembered because an item in them has no vector yet
_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")
_SESSIONS = COUNTS.index("sessions")


class OnlineState:
    """Applies events to a model's session memory. One thread applies; any number rank with `delta` meanwhile.

    since: see `EventProcessor`. Raises ValueError if the model has no session memory.
    """

    def __init__(self, model: Model, limits: LearningLimits, since: int | None = None) -> None:
        self.model, self._limits, self._since = model, limits, since
        self.memory, self.delta = memory_with_delta(model, limits.new_items)
        # Trends are learned too if the model's ranker reads them.
        self.trends = None if model.trends is None else model.trends.live(self.delta.n_catalog, once=True)
        self.event_processor = EventProcessor(model, limits, since)
        self._items = self.event_processor.items
        self._n_prior_sessions = 0
        self._norm = np.float32(mean_norm(model.weights["item_embedding"]))
        self._vectors = np.zeros((0, model.config.model.embedding_dim), dtype=np.float32)  # rows beyond M are spare
        # Indices of new items without a vector, by the handles of their sessions: the next click there is evidence.
        self._waiting: OrderedDict[int, list[int]] = OrderedDict()
        self._gone = set[int]()  # sessions of the tables that were forgotten
        self.event_processor.start(self)
        self.position = self.event_processor.position  # the log's, after the last event

    def restarted(self) -> OnlineState:
        """Return a state of the same model that has learned nothing and keeps the internal ids of new items: sessions
        and filters hold these, and the log may have lost the event that added an item."""
        state = OnlineState(self.model, self._limits, self._since)
        state.event_processor.keep_items(self.event_processor)
        return state

    def apply(self, entries: Sequence[LogEntry]) -> None:
        """Learn from events in the log's order."""
        self.event_processor.process(entries, self)
        self.position = self.event_processor.position

    # As the `EventSink` of the event processor; the tables do not count types

    def click(
        self,
        handles: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        context: np.ndarray | None = None,
        types: np.ndarray | None = None,  # noqa: ARG002
    ) -> None:
        self.delta.click(handles, items)
        if self.trends is not None:
            self.trends.click(handles, items, times, context=context)
        if self._waiting or (len(items) and items.max() >= self.model.n_items):
            self._follow_items_without_vector(handles.tolist(), items.tolist())

    def _follow_items_without_vector(self, handles: list[int], items: list[int]) -> None:
        """Note the sessions of items without a vector, whose next click is the first evidence for them."""
        new_items, n_base = self._items.new_items, self.model.n_items
        self._grow(len(new_items))
        for handle, item in zip(handles, items, strict=True):
            waiting = [index for index in self._waiting.pop(handle, ()) if not self._vectors[index].any()]
            for index in waiting:
                new_items.request_update(index)
                self._items.changed = True
            if item >= n_base and not self._vectors[item - n_base].any():
                waiting.append(item - n_base)
                self._items.changed = True  # the clicks before it may be its first evidence
            if waiting:
                self._waiting[handle] = waiting
        while len(self._waiting) > _WAITING:
            self._waiting.popitem(last=False)

    def forget(self, handle: int) -> None:
        self._waiting.pop(handle, None)
        self.delta.forget(handle)
        if self.trends is not None:
            self.trends.forget(handle)

    def forget_in_tables(self, base_session: int) -> None:
        if not self.delta.forget_base(base_session) or self.trends is None:
            return
        assert self.model.trends is not None
        self._gone.add(base_session)
        sessions, tables = self.model.sessions, self.model.trends
        clicks = slice(sessions.offsets[base_session], sessions.offsets[base_session + 1])
        items = np.unique(sessions.items[clicks])
        indices, first = self._sessions_with(items), self.delta.once_from
        kept = sessions.select(indices)
        ids, numbers = np.unique(np.concatenate([items, kept.items]), return_inverse=True)
        assert sessions.times is not None
        assert kept.times is not None
        codes = sessions.context if tables.context_sizes else None
        rows = build_trends(
            numbers[len(items) :].astype(np.int32), kept.offsets, kept.times, len(ids), **tables.settings.native,
            newest=int(tables.clock[-1]), once_from=None if first is None else int(np.searchsorted(indices, first)),
            context=None if codes is None else np.ascontiguousarray(kept.context), context_sizes=tables.context_sizes,
        )  # fmt: skip
        self.trends.forget_in_tables(
            sessions.items[clicks].copy(), sessions.times[clicks].copy(), rows, ids.astype(np.int32),
            None if codes is None else np.ascontiguousarray(codes[clicks]),
            once=first is not None and base_session >= first,
        )  # fmt: skip

    def _sessions_with(self, items: np.ndarray) -> np.ndarray:
        """Return the indices, ascending, of the sessions in the tables with one of `items`, without forgotten ones."""
        tables = self.model.memory
        assert tables is not None
        begins, ends = tables.post_offsets[items], tables.post_offsets[items + 1]
        if (ends - begins < tables.counts[items, _SESSIONS]).any():  # the postings are only the latest of them
            mask = np.zeros(tables.n_items, dtype=bool)
            mask[items] = True
            indices = np.searchsorted(tables.session_offsets, np.flatnonzero(mask[tables.session_items]), "right") - 1
        else:
            indices = np.concatenate([tables.postings[begin:end] for begin, end in zip(begins, ends, strict=True)])
        return np.setdiff1d(indices, np.fromiter(self._gone, dtype=np.int64, count=len(self._gone)))

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        first = self._n_prior_sessions
        self._n_prior_sessions = add_prior(self.delta, self.trends, item, neighbor, first, sessions, time)

    def refresh_vectors(self) -> None:
        new_items = self._items.new_items
        indices = new_items.due_for_update()
        if not indices:
            return
        self._grow(len(new_items))
        for index in indices:
            self._vectors[index] = self._vector(index, self._vectors)
        self._items.changed = True

    def recompute_vectors(self, internal_ids: Sequence[int]) -> None:
        """Compute these vectors again, and those of new items that are their neighbors."""
        n_base, new_items = self.model.n_items, self._items.new_items
        self._grow(len(new_items))
        for internal_id in internal_ids:
            neighbors, _ = self.delta.row(internal_id)
            for item in {internal_id, *neighbors[neighbors >= n_base].tolist()}:
                new_items.request_update(item - n_base)
            self._vectors[internal_id - n_base] = 0
        self.refresh_vectors()

    def _vector(self, index: int, new_vectors: np.ndarray) -> np.ndarray:
        item = self._items.new_items[index]
        neighbors, values = self.delta.row(self.model.n_items + index)
        weights = values[:, _FWD] + values[:, _BWD]
        direction = None if item.vector is None else np.array(item.vector, dtype=np.float32)
        if direction is None and item.neighbors:
            direction = self._rows(np.array(item.neighbors), new_vectors).astype(np.float64).mean(axis=0)
        if direction is None and item.content is not None and self.model.content is not None:
            rows = self._rows(neighbors, new_vectors)
            return evidence_vector(weights, rows, item.content, self.model.content.prior_clicks)
        return evidence_vector(weights, self._rows(neighbors, new_vectors), direction)

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
        return self._items.changed or self._counts_alone

    @property
    def _counts_alone(self) -> bool:
        """Whether the only news is clicks on known items, for which popularity, unlike trends, needs a new catalog."""
        return self.trends is None and self.event_processor.counted and not self._items.changed

    @property
    def arrival(self) -> int:
        """Unix milliseconds at which the newest event arrived; 0 if unknown."""
        return self.event_processor.tracker.clock.arrival

    def republish(self) -> None:
        """Note that the last catalog was not published."""
        self._items.changed = True

    @property
    def can_wait(self) -> bool:
        """Whether the only news is clicks on known items: they change no ranking except the one by popularity."""
        return not self._items.changed

    def catalog(self) -> Catalog:
        """Return the catalog to serve: immutable, except that the memory it refers to keeps learning."""
        items, counts_alone = self._items, self._counts_alone
        items.end_reservation()  # sessions and filters hold these ids, whatever the log has lost
        size = items.size
        items.changed = self.event_processor.counted = False
        unavailable, clicks, added = items.unavailable[:size].copy(), items.clicks[:size].copy(), items.new_items
        catalog = Catalog.learned(
            self.model, added.internal_ids, self._current_vectors(), self._norm, unavailable, clicks, self.memory,
            self.delta, self.trends, items.table(), added.left, items.displays[:size].copy(),
        )  # fmt: skip
        if counts_alone:
            _ = catalog.most_clicked  # sort here: such catalogs are frequent, and no ranking may wait for it
        return catalog

    def _current_vectors(self) -> np.ndarray:
        """Return a copy float32[M, d] of the vectors, including those that the next update would be the first to give.
        So which items have one depends on the log alone, not on when a reader publishes."""
        new_items = self._items.new_items
        self._grow(len(new_items))
        vectors = self._vectors[: len(new_items)].copy()
        for index in new_items.touched:
            if not vectors[index].any():
                vectors[index] = self._vector(index, vectors)
        return vectors

    def _grow(self, count: int) -> None:
        """Make room for the vectors of `count` items."""
        if count > len(self._vectors):
            wider = np.zeros((max(count, 2 * len(self._vectors)), self._vectors.shape[1]), dtype=np.float32)
            wider[: len(self._vectors)] = self._vectors
            self._vectors = wider
