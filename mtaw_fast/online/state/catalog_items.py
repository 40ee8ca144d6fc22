"""The items of a catalog as the events of a log change it: internal ids, clicks, and which are not recommended.

Axes: N items of the model, M new items after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.items.live import LiveItems
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.events import Displays, is_id
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.content_prior import ContentPrior
from mtaw_fast.online.state.new_items import NewItems
from mtaw_fast.online.state.session_tracker import key_of


class CatalogItems:
    """The items of a model, and those that enter after them. Not thread-safe: one reader owns it.

    progress: what the model has learned from the log before.

    clicks: int64[N + limits.new_items], those of the model included. unavailable: bool[N + limits.new_items], items
    that are not recommended. hidden: those of them that have too few clicks so far. added: items that were added by
    hand since the training. given: the vectors that came with them. removed_ids: items that were removed by hand and
    are not in the catalog: clicks that brought them are no longer in the log. entered: new items whose attributes have
    not been looked at. displays: int64[N + limits.new_items], how often each was shown while it was new. left: items
    that entered by clicks and that no session holds any more. live: the item table with what changed, and the items
    that were hidden by hand. changed: whether items were added, removed or changed; the reader resets it.
    """

    def __init__(self, model: Model, limits: LearningLimits, progress: LogProgress) -> None:
        self._ids, self._limits, self._n_items = model.ids, limits, model.n_items
        self._id_type = int if model.ids.kind == "int" else str
        self.new_items = NewItems(model.n_items, limits.new_items, progress.entered, progress.candidates)
        capacity = model.n_items + limits.new_items
        self.clicks = np.zeros(capacity, dtype=np.int64)
        self.clicks[: model.n_items] = model.popularity
        self.unavailable = np.zeros(capacity, dtype=bool)
        self.unavailable[progress.removed] = True
        self.unavailable[progress.hidden] = True
        self.displays = np.zeros(capacity, dtype=np.int64)
        for internal_id, count in progress.displays:
            self.displays[internal_id] = count
        self.hidden = set(progress.hidden.tolist())
        self.added, self._untrained = set(progress.added), set(progress.untrained.tolist())
        self.removed_ids = set(progress.removed_ids)
        vectors = progress.given_vectors.reshape(-1, model.config.model.embedding_dim)
        self.given: dict[int, Sequence[float] | np.ndarray] = dict(
            zip(progress.given_items.tolist(), vectors, strict=True)
        )
        self.left = set(progress.left)
        self._awaited = set[int]()  # ids reserved for items that the log has yet to add
        self._entered_count = limits.new_items
        self.entered: list[int] = []
        self.live, self.content = LiveItems(model.items), ContentPrior(model)
        self.changed = True

    @property
    def size(self) -> int:
        """N + M; M counts reserved ids up to the last one whose item has entered."""
        return self._n_items + (self._entered_count if self._awaited else len(self.new_items))

    def table(self) -> ItemTable | None:
        """Return the item table of all items so far."""
        return self.live.table(self.internal_ids_of, self.size)

    def reserve(self, other: CatalogItems) -> None:
        """Give new items the internal ids, and the availability, that they have in another catalog of the same model.
        An item is unknown until it enters, or until `end_reservation`."""
        for item in other.new_items.ids:
            if self.new_items.internal_id_of(item) is None:
                internal_id = self.new_items.add(item)
                if internal_id is not None:
                    self._awaited.add(internal_id)
                    self._entered_count = min(self._entered_count, internal_id - self._n_items)
        self.unavailable[:] = other.unavailable
        self.hidden = set(other.hidden)

    @property
    def is_awaiting(self) -> bool:
        """Whether ids are reserved for items that have not entered."""
        return bool(self._awaited)

    def end_reservation(self) -> None:
        """Let every item that has an internal id be known."""
        self._awaited.clear()

    def internal_ids_of(self, items: Sequence[int | str]) -> np.ndarray:
        """Return int32 internal ids of external ones; -1 for unknown items."""
        internal_ids = self._ids.lookup(items)
        for index in np.flatnonzero(internal_ids < 0).tolist():
            internal_id = self.new_items.internal_id_of(items[index])
            internal_ids[index] = -1 if internal_id is None or internal_id in self._awaited else internal_id
        return internal_ids

    def known(self, items: Iterable[int | str]) -> list[int]:
        """Return the internal ids of the items that are known, in order."""
        return [internal_id for internal_id in self.internal_ids_of(list(items)).tolist() if internal_id >= 0]

    def is_trained(self, internal_id: int) -> bool:
        """Return whether a training of the encoder has seen an item."""
        return internal_id < self._n_items and internal_id not in self._untrained

    def fits(self, item: int | str) -> bool:
        """Return whether the catalog can hold an id."""
        return type(item) is self._id_type and is_id(item)

    def entered_id(self, item: int | str) -> int:
        """Return the internal id of an item that the model does not know; -1 if it has not entered."""
        internal_id = self.new_items.internal_id_of(item)
        return -1 if internal_id is None or internal_id in self._awaited else internal_id

    def enter(self, item: int | str, session: str | None = None, sessions_needed: int = 0) -> int | str:
        """Return the internal id of an item that the model does not know, or why it cannot enter: "catalog_full" or
        "unproven". session: whose click brings it; None if it is added by hand. sessions_needed: in how many sessions
        it must be clicked at least; 0: the sender is trusted."""
        internal_id = self.new_items.internal_id_of(item)
        if internal_id is not None and internal_id not in self._awaited:
            return internal_id
        if session is not None:
            if internal_id is None and not self.new_items.has_room_for_clicks:
                return "catalog_full"
            if not self.new_items.admits(item, key_of(session), sessions_needed):
                return "unproven"
        if internal_id is not None:
            self._awaited.discard(internal_id)
            self._entered_count = max(self._entered_count, internal_id + 1 - self._n_items)
        elif (internal_id := self.new_items.add(item)) is None:
            return "catalog_full"
        self.changed = True
        self.entered.append(internal_id)
        if item in self.removed_ids:
            self.removed_ids.discard(item)
            self.unavailable[internal_id] = True
        elif self._limits.min_clicks > 1:
            self.hidden.add(internal_id)
            self.unavailable[internal_id] = True
        return internal_id

    def enter_again(self, internal_id: int, item: int | str, session: str, sessions_needed: int) -> int | str:
        """Let an item of `left` enter once more, as an unknown one; arguments and result as of `enter`."""
        if not self.new_items.admits(item, key_of(session), sessions_needed):
            return "unproven"
        self.left.discard(internal_id)
        return internal_id

    def show(self, internal_id: int) -> None:
        """Recommend an item from now on."""
        self.hidden.discard(internal_id)
        self.unavailable[internal_id] = False
        self.changed = True

    def show_proven(self, internal_ids: Iterable[int]) -> None:
        """Recommend those hidden items that have clicks enough now."""
        for internal_id in self.hidden.intersection(internal_ids) if self.hidden else ():
            if self.clicks[internal_id] >= self._limits.min_clicks:
                self.show(internal_id)

    def remove(self, items: Sequence[int | str]) -> None:
        """Stop recommending items by hand."""
        for item, internal_id in zip(items, self.internal_ids_of(items).tolist(), strict=True):
            if internal_id < 0:
                self.removed_ids.add(item)
            else:
                self.hidden.discard(internal_id)
                self.unavailable[internal_id] = True
        self.changed = True

    def count_displays(self, event: Displays) -> None:
        """Count how often items were shown; those that are not known are ignored."""
        for internal_id, count in zip(self.internal_ids_of(event.items).tolist(), event.counts, strict=True):
            if internal_id >= 0:
                self.displays[internal_id] += count
        self.changed = True

    def uncount(self, internal_ids: np.ndarray) -> list[int]:
        """Take the clicks of a forgotten session back; return its new items.

        An untrained item that no session holds now is hidden and has left: the next click must bring it again.
        """
        np.subtract.at(self.clicks, internal_ids, 1)
        distinct = np.unique(internal_ids)
        new_internal_ids: list[int] = distinct[distinct >= self._n_items].tolist()
        self.new_items.uncount(internal_ids.tolist())
        for internal_id in [*self._untrained.intersection(distinct.tolist()), *new_internal_ids]:
            if self.clicks[internal_id] >= self._limits.min_clicks or self._is_described(internal_id):
                continue
            if not self.unavailable[internal_id]:  # an item that was removed by hand must not come back with a click
                self.hidden.add(internal_id)
                self.unavailable[internal_id] = True
            if self.clicks[internal_id] <= 0 and internal_id not in self.left:
                self.left.add(internal_id)
                self.new_items.entered -= 1
            if internal_id >= self._n_items:
                self.new_items[internal_id - self._n_items].is_left = self.clicks[internal_id] <= 0
        self.changed = True
        return new_internal_ids

    def _is_described(self, internal_id: int) -> bool:
        """Return whether more than clicks speaks for an untrained item: it was added by hand, or has attributes."""
        if internal_id in self.added:
            return True
        if internal_id >= self._n_items:
            return self.new_items[internal_id - self._n_items].content is not None
        table = self.live.latest(self.internal_ids_of, self.size) if self.content.is_known else None
        item = self._ids.external(np.array([internal_id], dtype=np.int32))[0]
        return table is not None and self.content.vector(item, internal_id, table) is not None
