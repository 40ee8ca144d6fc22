"""Items that entered the catalog while serving: their internal ids, their clicks and their vectors.

Internal ids continue after the bundle's N items in the order of the log, so that every reader gives an item the same
one. Axes: d dimensions, P neighbors of one item.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtaw_fast.online.log.events import AddItems

MAX_SESSIONS = 16  # that an unknown item needs at most before it enters
_RESERVE = 16  # 1 / the share of the capacity that only items added by hand can take
GIVEN_WEIGHT = 3.0  # the weight of a vector that came with the item, in clicks next to another item


@dataclass(slots=True)
class NewItem:
    """One item that the bundle does not know.

    next_update: the number of clicks at which its vector is computed again; it doubles, so that the work stays small.
    vector, neighbors: what came with it, neighbors by internal id. content: float32[d], the vector of its attributes.
    is_left: whether all sessions with it were forgotten.
    """

    clicks: int = 0
    next_update: int = 1
    vector: tuple[float, ...] | None = None
    neighbors: tuple[int, ...] = ()
    content: np.ndarray | None = None
    is_left: bool = False


class NewItems:
    """The items that follow a bundle's. Not thread-safe: one reader owns it.

    Anyone can click on ids that do not exist. Such items cannot fill the catalog: the more items have entered by clicks
    since the training, the more sessions the next one needs before it enters (`sessions_needed`), and a 16th of the
    capacity is for items that are added by hand.

    n_base: N, the number of the bundle's items. capacity: how many may be added. entered: how many have entered by
    clicks since the training, and are still held by a session. candidates: the keys of the sessions that clicked
    unknown items which have not entered, the latest item last.
    """

    def __init__(
        self, n_base: int, capacity: int, entered: int = 0, candidates: Mapping[int | str, Iterable[int]] | None = None
    ) -> None:
        self._n_base, self._capacity, self.entered = n_base, capacity, entered
        self._internal_ids: dict[int | str, int] = {}
        self._items: list[NewItem] = []
        self._touched: set[int] = set()  # indices from 0 on, since the last update of vectors
        self.candidates = OrderedDict((item, set(sessions)) for item, sessions in (candidates or {}).items())

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> NewItem:
        """Return the item with internal id N + index."""
        return self._items[index]

    @property
    def internal_ids(self) -> dict[int | str, int]:
        """A copy of the internal ids by external id, in order."""
        return dict(self._internal_ids)

    @property
    def ids(self) -> tuple[int | str, ...]:
        """External ids in order."""
        return tuple(self._internal_ids)

    @property
    def has_room_for_clicks(self) -> bool:
        """Whether an item may still enter by a click."""
        return len(self._items) < self._capacity - self._capacity // _RESERVE

    @property
    def sessions_needed(self) -> int:
        """In how many sessions the next unknown item must be clicked before it enters.

        1 while at least half of the capacity is free since the training, 2 while a quarter is, then 4, 8 and 16.
        """
        needed, free = 1, self._capacity - self.entered
        while needed < MAX_SESSIONS and 2 * needed * free < self._capacity:
            needed *= 2
        return needed

    def admits(self, item: int | str, session: int, least: int = 1) -> bool:
        """Return whether an unknown item enters with this click. session: the key of the click's session. least: how
        many sessions must click it at least; 0: this one is enough."""
        needed = max(least, self.sessions_needed) if least else 0
        if needed > 1:
            sessions = self.candidates.pop(item, set()) | {session}
            if len(sessions) < needed:
                self.candidates[item] = sessions
                if len(self.candidates) > self._capacity:
                    self.candidates.popitem(last=False)
                return False
        self.candidates.pop(item, None)
        self.entered += 1
        return True

    def forget(self, session: int) -> None:
        """Remove the session with this key from what is known of unknown items."""
        for sessions in self.candidates.values():
            sessions.discard(session)

    def add(self, item: int | str) -> int | None:
        """Add an unknown external id and return its internal id; None if no more items may be added."""
        if len(self._items) >= self._capacity:
            return None
        internal_id = self._internal_ids[item] = self._n_base + len(self._items)
        self._items.append(NewItem())
        return internal_id

    def internal_id_of(self, item: int | str) -> int | None:
        """Return the internal id of an external one; None if it was not added."""
        return self._internal_ids.get(item)

    def count(self, internal_ids: Iterable[int]) -> None:
        """Count clicks on internal ids; those of the bundle's items are ignored."""
        for internal_id in internal_ids:
            if internal_id >= self._n_base:
                self._items[internal_id - self._n_base].clicks += 1
                self._items[internal_id - self._n_base].is_left = False
                self._touched.add(internal_id - self._n_base)

    def uncount(self, internal_ids: Iterable[int]) -> None:
        """Take clicks of a forgotten session back; internal ids as `count`."""
        for internal_id in internal_ids:
            if internal_id >= self._n_base:
                self._items[internal_id - self._n_base].clicks -= 1

    @property
    def left(self) -> frozenset[int | str]:
        """External ids of items that no session holds any more, and that nobody added by hand."""
        return frozenset(
            item for item, new_item in zip(self._internal_ids, self._items, strict=True) if new_item.is_left
        )

    def request_update(self, index: int) -> None:
        """Let the vector of new item `index` (from 0 on) be computed at the next update."""
        self._items[index].next_update = 0
        self._touched.add(index)

    @property
    def touched(self) -> list[int]:
        """The indices (from 0 on) of items with news since the last update of vectors, ascending."""
        return sorted(self._touched)

    def describe(self, event: AddItems, row: int, internal_id: int, neighbors: Sequence[int]) -> None:
        """Store what row `row` of an event says about the item with this internal id."""
        item = self._items[internal_id - self._n_base]
        item.vector = None if event.vectors is None else event.vectors[row]
        item.neighbors = tuple(neighbors)
        item.is_left = False
        self.request_update(internal_id - self._n_base)

    def describe_by_content(self, internal_id: int, vector: np.ndarray) -> None:
        """Store the vector of the attributes of the item with this internal id."""
        self._items[internal_id - self._n_base].content = vector
        self.request_update(internal_id - self._n_base)

    def due_for_update(self) -> list[int]:
        """Return the indices (from 0 on) of the items whose vectors must be computed now, and set their next update."""
        indices = [index for index in self.touched if self._items[index].clicks >= self._items[index].next_update]
        self._touched.clear()
        for index in indices:
            item = self._items[index]
            item.next_update = max(1, 2 * item.clicks)
        return indices


def evidence_vector(
    weights: np.ndarray,
    vectors: np.ndarray,
    given_direction: np.ndarray | None = None,
    given_weight: float = GIVEN_WEIGHT,
) -> np.ndarray:
    """Return the direction of the weighted mean of an item's neighbors, float32[d] of length 1; zero if unknown.

    weights: float64[P], of each neighbor: the sum of 1/distance over both directions; negative ones count as 0.
    vectors: float32[P, d], of length 1, or 0 if an item has no vector yet. given_direction: float32[d], what came with
    the item, or that of its attributes. given_weight: its weight, in clicks next to another item.
    """
    total = np.zeros(vectors.shape[1], dtype=np.float64)
    if given_direction is not None:
        total += given_weight * _direction(given_direction.astype(np.float64))
    total += np.maximum(weights, 0) @ vectors.astype(np.float64)
    return _direction(total).astype(np.float32)


def _direction(vector: np.ndarray) -> np.ndarray:
    length = float(np.sqrt(vector @ vector))
    return vector / length if length > 0 else vector
