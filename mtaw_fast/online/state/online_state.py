"""What one process has learned: the delta beside the model's tables, items that came, and what they look like.

Every process that reads a log to the same position holds the same state, to the bit, however the events came in.
Axes: N items of the model, M new_items behind them, d dimensions, P neighbors of an item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import Stamped
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.cold_start import memory_with_delta, prior_pair
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.online.state.new_items import evidence_vector
from mtaw_fast.ranking.catalog import Catalog

_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")


class OnlineState:
    """Applies events to what a model knows. One thread applies; any number rank with `delta` meanwhile.

    Parameters
    ----------
    model : Model
        With a session memory.
    limits : LearningLimits
        Who teaches how much.
    since : int, optional
        See `EventProcessor`.

    Raises
    ------
    ValueError
        Where the model has no session memory.
    """

    def __init__(self, model: Model, limits: LearningLimits, since: int | None = None) -> None:
        self.model, self._limits, self._since = model, limits, since
        self.memory, self.delta = memory_with_delta(model, limits.new_items)
        # What wall-clock time says goes along where the model's ranker reads it.
        self.trends = None if model.trends is None else model.trends.live(self.delta.n_catalog)
        self.event_processor = EventProcessor(model, limits, since)
        self._made_up = 0
        self._norm = np.float32(mean_norm(model.weights["item_embedding"]))
        self._vectors = np.zeros((0, model.config.model.embedding_dim), dtype=np.float32)
        self.event_processor.begin(self)

    def anew(self) -> OnlineState:
        """One that has learned nothing yet: of the same model, by the same limits, with the same internal ids.

        The log may have lost what brought an item in, and sessions and filters hold its id.
        """
        state = OnlineState(self.model, self._limits, self._since)
        state.event_processor.keep_items(self.event_processor)
        return state

    def apply(self, stamped: Sequence[Stamped]) -> None:
        """Learn from events in the log's order."""
        self.event_processor.take(stamped, self)

    # The sink

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

    def forget_base(self, place: int) -> None:
        """See `EventSink.forget_base`."""
        if self.delta.forget_base(place) and self.trends is not None:
            sessions = self.model.sessions
            clicks = slice(sessions.offsets[place], sessions.offsets[place + 1])
            assert sessions.times is not None
            handle = -1 - place  # the event_processor's own are not negative
            self.trends.resume(handle, sessions.items[clicks].copy(), sessions.times[clicks].copy())
            self.trends.forget(handle)

    def seed(self, item: int, neighbor: int) -> None:
        """See `EventSink.seed` and `online.state.cold_start`."""
        self._made_up = prior_pair(self.delta, item, neighbor, self._made_up)

    def look_again(self) -> None:
        """See `EventSink.look_again`: make the vectors of new_items again where there is more to go by."""
        new_items = self.event_processor.new_items
        due = new_items.due()
        if not due:
            return
        vectors = self._widened(len(new_items))
        for place in due:
            vectors[place] = self._vector(place, vectors)
        self._vectors, self.event_processor.changed = vectors, True

    def _vector(self, place: int, newest: np.ndarray) -> np.ndarray:
        one = self.event_processor.new_items[place]
        neighbors, values = self.delta.row(self.model.n_items + place)
        weights = values[:, _FWD] + values[:, _BWD]
        given = None if one.vector is None else np.array(one.vector, dtype=np.float32)
        if given is None and one.neighbors:
            given = self._rows(np.array(one.neighbors), newest).astype(np.float64).mean(axis=0)
        return evidence_vector(weights, self._rows(neighbors, newest), given)

    def _rows(self, items: np.ndarray, newest: np.ndarray) -> np.ndarray:
        """float32[.., d]: the vectors of internal ids."""
        base = self.model.item_vectors
        inside = items < len(base)
        rows = np.empty((len(items), base.shape[1]), dtype=np.float32)
        rows[inside] = base[items[inside]]
        rows[~inside] = newest[items[~inside] - len(base)]
        return rows

    # What serves

    @property
    def changed(self) -> bool:
        """Whether `newest` would say something that it did not say before."""
        return self.event_processor.changed or self._counts_alone

    @property
    def _counts_alone(self) -> bool:
        """Whether clicks on known items are all that is new. Trends know them at once; popularity is of a state."""
        return self.trends is None and self.event_processor.counted and not self.event_processor.changed

    @property
    def waits(self) -> bool:
        """Whether what is new may wait: clicks on known items, which change no ranking but the one by popularity."""
        return not self.event_processor.changed

    def newest(self) -> Catalog:
        """What is served now: an immutable state of the catalog; the memory behind it goes on learning."""
        event_processor, counts_alone = self.event_processor, self._counts_alone
        event_processor.changed = event_processor.counted = False
        size = self.model.n_items + len(event_processor.new_items)
        catalog = Catalog.learned(
            self.model,
            event_processor.new_items.places,
            self._widened(len(event_processor.new_items)),
            self._norm,
            event_processor.gone[:size].copy(),
            event_processor.clicks[:size].copy(),
            self.memory,
            self.trends,
        )
        if counts_alone:
            _ = catalog.most_clicked  # sorted by whoever learns: these states are many, and no ranking shall wait
        return catalog

    def _widened(self, count: int) -> np.ndarray:
        vectors = np.zeros((count, self.model.config.model.embedding_dim), dtype=np.float32)
        vectors[: len(self._vectors)] = self._vectors
        return vectors
