"""The items of a catalog as the events of a log change it: internal ids, clicks, and which are not recommended.

Axes: N items of the model, M new items after them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.items.live import LiveItems
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.events import is_id
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.content_prior import ContentPrior
from mtaw_fast.online.state.new_items import NewItems
from mtaw_fast.online.state.session_tracker import key_of


class CatalogItems:
    """The items of a model, and those that enter after them. Not thread-safe: one reader owns it.

    Parameters
    ----------
    model : Model
        Its items are the start.
    limits : LearningLimits
        Limits on which items enter.
    progress : LogProgress
        What the model has learned from the log before.
    refused : Counter
        Counts ids that did not enter, by reason.

    Attributes
    ----------
    new_items : NewItems
        The items that follow the model's.
    clicks : int64[N + limits.new_items]
        Clicks of each item, those of the model included.
    unavailable : bool[N + limits.new_items]
        Items that are not recommended.
    hidden : set of int
        Those of them that have too few clicks so far.
    added : set of int
        Items that were added by hand since the training.
    removed_ids : set of id
        Items that were removed by hand and are not in the catalog: clicks that brought them are no longer in the log.
    entered : list of int
        New items whose attributes have not been looked at.
    live : LiveItems
        The item table with what changed, and the items that were hidden by hand.
    content : ContentPrior
        What attributes say about an item.
    changed : bool
        Whether items were added, removed or changed. The reader resets it.
    """

    def __init__(self, model: Model, limits: LearningLimits, progress: LogProgress, refused: Counter[str]) -> None:
        self._ids, self._limits, self._n_items = model.ids, limits, model.n_items
        self._id_type = int if model.ids.kind == "int" else str
        self._refused = refused
        self.new_items = NewItems(model.n_items, limits.new_items, progress.entered, progress.candidates)
        capacity = model.n_items + limits.new_items
        self.clicks = np.zeros(capacity, dtype=np.int64)
        self.clicks[: model.n_items] = model.popularity
        self.unavailable = np.zeros(capacity, dtype=bool)
        self.unavailable[progress.removed] = True
        self.unavailable[progress.hidden] = True
        self.hidden = set(progress.hidden.tolist())
        self.added, self._untrained = set(progress.added), set(progress.untrained.tolist())
        self.removed_ids = set(progress.removed_ids)
        self._awaited = set[int]()  # ids reserved for items that the log has yet to add
        self.entered: list[int] = []
        self.live, self.content = LiveItems(model.items), ContentPrior(model)
        self.changed = True

    @property
    def size(self) -> int:
        """N + M."""
        return self._n_items + len(self.new_items)

    def table(self) -> ItemTable | None:
        """Return the item table of all items so far."""
        return self.live.table(self.places_of, self.size)

    def reserve(self, other: CatalogItems) -> None:
        """Give new items the internal ids that they have in another catalog of the same model.

        Items that are not recommended there are not recommended here. An item is unknown until it enters, or until
        `end_reservation`.
        """
        for item in other.new_items.ids:
            if self.new_items.place_of(item) is None:
                place = self.new_items.add(item)
                if place is not None:
                    self._awaited.add(place)
        self.unavailable[:] = other.unavailable
        self.hidden = set(other.hidden)

    @property
    def is_awaiting(self) -> bool:
        """Whether ids are reserved for items that have not entered."""
        return bool(self._awaited)

    def end_reservation(self) -> None:
        """Let every item that has an internal id be known."""
        self._awaited.clear()

    def places_of(self, items: Sequence[int | str]) -> np.ndarray:
        """Return int32 internal ids of external ones; -1 for unknown items."""
        places = self._ids.lookup(items)
        for index in np.flatnonzero(places < 0).tolist():
            place = self.new_items.place_of(items[index])
            places[index] = -1 if place is None else place
        return places

    def known(self, items: Iterable[int | str]) -> list[int]:
        """Return the internal ids of the items that are known, in order."""
        places = self.places_of(list(items))
        return [place for place in places.tolist() if place >= 0 and place not in self._awaited]

    def fits(self, item: int | str) -> bool:
        """Return whether the catalog can hold an id."""
        return type(item) is self._id_type and is_id(item)

    def clicked(self, items: Sequence[int | str], sessions: Sequence[str]) -> np.ndarray:
        """Return int32 internal ids of clicked items. An unknown item enters the catalog; -1 if it cannot."""
        places = self._ids.lookup(items)
        for index in np.flatnonzero(places < 0).tolist():
            if self.fits(items[index]):
                places[index] = self.enter(items[index], sessions[index])
            else:
                self._refused["wrong_type"] += 1
        return places

    def enter(self, item: int | str, session: str | None = None) -> int:
        """Return the internal id of an item that the model does not know; -1 if it cannot enter.

        session: whose click brings it; None if it is added by hand.
        """
        place = self.new_items.place_of(item)
        if place is not None and place not in self._awaited:
            return place
        if session is not None:
            if place is None and not self.new_items.has_room_for_clicks:
                self._refused["catalog_full"] += 1
                return -1
            if not self.new_items.admits(item, key_of(session)):
                self._refused["unproven"] += 1
                return -1
        if place is not None:
            self._awaited.discard(place)
            return place
        place = self.new_items.add(item)
        if place is None:
            self._refused["catalog_full"] += 1
            return -1
        self.changed = True
        self.entered.append(place)
        if item in self.removed_ids:
            self.removed_ids.discard(item)
            self.unavailable[place] = True
        elif self._limits.min_clicks > 1:
            self.hidden.add(place)
            self.unavailable[place] = True
        return place

    def show(self, place: int) -> None:
        """Recommend an item from now on."""
        self.hidden.discard(place)
        self.unavailable[place] = False
        self.changed = True

    def show_proven(self, places: Iterable[int]) -> None:
        """Recommend those hidden items that have clicks enough now."""
        for place in self.hidden.intersection(places) if self.hidden else ():
            if self.clicks[place] >= self._limits.min_clicks:
                self.show(place)

    def remove(self, items: Sequence[int | str]) -> None:
        """Stop recommending items by hand."""
        for item, place in zip(items, self.places_of(items).tolist(), strict=True):
            if place < 0:
                self.removed_ids.add(item)
            else:
                self.hidden.discard(place)
                self.unavailable[place] = True
        self.changed = True

    def uncount(self, places: np.ndarray) -> list[int]:
        """Take the clicks of a forgotten session back; return its new items.

        An untrained item that no session holds now is hidden. If it is newer than the bundle, it is unknown again.
        """
        np.subtract.at(self.clicks, places, 1)
        distinct = np.unique(places)
        new_places: list[int] = distinct[distinct >= self._n_items].tolist()
        self.new_items.uncount(places.tolist())
        for place in [*self._untrained.intersection(distinct.tolist()), *new_places]:
            if self.clicks[place] >= self._limits.min_clicks or self._is_described(place):
                continue
            if not self.unavailable[place]:  # an item that was removed by hand must not come back with a click
                self.hidden.add(place)
                self.unavailable[place] = True
            if place >= self._n_items:
                self.new_items[place - self._n_items].is_left = self.clicks[place] <= 0
        self.changed = True
        return new_places

    def _is_described(self, place: int) -> bool:
        """Return whether more than clicks speaks for an untrained item: it was added by hand, or has attributes."""
        if place in self.added:
            return True
        if place >= self._n_items:
            return self.new_items[place - self._n_items].content is not None
        table = self.live.latest(self.places_of, self.size) if self.content.is_known else None
        item = self._ids.external(np.array([place], dtype=np.int32))[0]
        return table is not None and self.content.vector(item, place, table) is not None
