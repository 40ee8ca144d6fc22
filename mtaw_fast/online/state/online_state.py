"""What one process has learned: the delta beside the model's tables, items that came, and what they look like.

Every process that reads a log to the same position holds the same state, to the bit, however the events came in.
Axes: N items of the model, M newcomers behind them, d dimensions, P neighbours of an item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.live.event_log import Stamped
from mtaw_fast.live.ledger import Ledger
from mtaw_fast.live.limits import LearningLimits
from mtaw_fast.live.seeding import memory_with_delta, seed_pair
from mtaw_fast.live.vectors import evidence_vector
from mtaw_fast.model.item_vectors import mean_norm
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog

_FWD, _BWD = PAIR_KINDS.index("fwd"), PAIR_KINDS.index("bwd")


class LiveState:
    """Applies events to what a model knows. One thread applies; any number rank with `delta` meanwhile.

    Parameters
    ----------
    model : Model
        With a session memory.
    limits : LearningLimits
        Who teaches how much.
    since : int, optional
        See `Ledger`.

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
        self.ledger = Ledger(model, limits, since)
        self._made_up = 0
        self._norm = np.float32(mean_norm(model.weights["item_embedding"]))
        self._vectors = np.zeros((0, model.config.d), dtype=np.float32)
        self.ledger.begin(self)

    def anew(self) -> LiveState:
        """One that has learned nothing yet: of the same model, by the same limits, with the same internal ids.

        The log may have lost what brought an item in, and sessions and filters hold its id.
        """
        state = LiveState(self.model, self._limits, self._since)
        state.ledger.keep_items(self.ledger)
        return state

    def apply(self, stamped: Sequence[Stamped]) -> None:
        """Learn from events in the log's order."""
        self.ledger.take(stamped, self)

    # The pupil

    def click(self, handles: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """See `Pupil.click`."""
        self.delta.click(handles, items)
        if self.trends is not None:
            self.trends.click(handles, items, times)

    def forget(self, handle: int) -> None:
        """See `Pupil.forget`."""
        self.delta.forget(handle)
        if self.trends is not None:
            self.trends.forget(handle)

    def forget_base(self, place: int) -> None:
        """See `Pupil.forget_base`."""
        if self.delta.forget_base(place) and self.trends is not None:
            sessions = self.model.sessions
            clicks = slice(sessions.offsets[place], sessions.offsets[place + 1])
            assert sessions.times is not None
            handle = -1 - place  # the ledger's own are not negative
            self.trends.resume(handle, sessions.items[clicks].copy(), sessions.times[clicks].copy())
            self.trends.forget(handle)

    def seed(self, item: int, neighbour: int) -> None:
        """See `Pupil.seed` and `live.seeding`."""
        self._made_up = seed_pair(self.delta, item, neighbour, self._made_up)

    def look_again(self) -> None:
        """See `Pupil.look_again`: make the vectors of newcomers again where there is more to go by."""
        newcomers = self.ledger.newcomers
        due = newcomers.due()
        if not due:
            return
        vectors = self._widened(len(newcomers))
        for place in due:
            vectors[place] = self._vector(place, vectors)
        self._vectors, self.ledger.changed = vectors, True

    def _vector(self, place: int, newest: np.ndarray) -> np.ndarray:
        one = self.ledger.newcomers[place]
        neighbours, values = self.delta.row(self.model.n_items + place)
        weights = values[:, _FWD] + values[:, _BWD]
        given = None if one.vector is None else np.array(one.vector, dtype=np.float32)
        if given is None and one.neighbours:
            given = self._rows(np.array(one.neighbours), newest).astype(np.float64).mean(axis=0)
        return evidence_vector(weights, self._rows(neighbours, newest), given)

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
        return self.ledger.changed or self._counts_alone

    @property
    def _counts_alone(self) -> bool:
        """Whether clicks on known items are all that is new. Trends know them at once; popularity is of a state."""
        return self.trends is None and self.ledger.counted and not self.ledger.changed

    @property
    def waits(self) -> bool:
        """Whether what is new may wait: clicks on known items, which change no ranking but the one by popularity."""
        return not self.ledger.changed

    def newest(self) -> Catalog:
        """What is served now: an immutable state of the catalog; the memory behind it goes on learning."""
        ledger, counts_alone = self.ledger, self._counts_alone
        ledger.changed = ledger.counted = False
        size = self.model.n_items + len(ledger.newcomers)
        catalog = Catalog.learned(
            self.model,
            ledger.newcomers.places,
            self._widened(len(ledger.newcomers)),
            self._norm,
            ledger.gone[:size].copy(),
            ledger.clicks[:size].copy(),
            self.memory,
            self.trends,
        )
        if counts_alone:
            _ = catalog.most_clicked  # sorted by whoever learns: these states are many, and no ranking shall wait
        return catalog

    def _widened(self, count: int) -> np.ndarray:
        vectors = np.zeros((count, self.model.config.d), dtype=np.float32)
        vectors[: len(self._vectors)] = self._vectors
        return vectors
