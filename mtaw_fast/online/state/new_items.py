"""Items that came while serving: their places, what is known of them, and when that is looked at again.

Places go on behind the bundle's N items in the order of the log, so that every reader gives an item the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mtaw_fast.online.log.events import AddItems

GIVEN_WEIGHT = 3.0  # a vector that came with the item counts as much as so many clicks beside another item


@dataclass(slots=True)
class NewItem:
    """One item that the bundle does not know.

    Attributes
    ----------
    clicks : int
        Learned so far.
    due : int
        At so many clicks its vector is made again: it doubles, so that the work stays small.
    asked : bool
        Whether somebody added it, so that it is recommended without a click.
    vector : tuple of float | None
        What came with it.
    neighbors : tuple of int
        Internal ids that came with it.
    """

    clicks: int = 0
    due: int = 1
    asked: bool = False
    vector: tuple[float, ...] | None = None
    neighbors: tuple[int, ...] = ()


class NewItems:
    """The items behind a bundle's. Not thread-safe: one reader owns it.

    Parameters
    ----------
    n_base : int
        N, the bundle's items.
    most : int
        How many may come.
    """

    def __init__(self, n_base: int, most: int) -> None:
        self._n_base, self._most = n_base, most
        self._places: dict[int | str, int] = {}
        self._items: list[NewItem] = []

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> NewItem:
        """The new_item with internal id N + place."""
        return self._items[place]

    @property
    def places(self) -> dict[int | str, int]:
        """Internal ids by external ones, in their order: a copy."""
        return dict(self._places)

    @property
    def ids(self) -> tuple[int | str, ...]:
        """External ids, by place."""
        return tuple(self._places)

    def place(self, item: int | str) -> int | None:
        """A new internal id for an external one that is not known; None where there is no room."""
        if len(self._items) >= self._most:
            return None
        found = self._places[item] = self._n_base + len(self._items)
        self._items.append(NewItem())
        return found

    def known(self, item: int | str) -> int | None:
        """The internal id of an external one that came before."""
        return self._places.get(item)

    def count(self, places: Iterable[int]) -> None:
        """Count clicks by internal ids, the bundle's own among them."""
        for place in places:
            if place >= self._n_base:
                self._items[place - self._n_base].clicks += 1

    def describe(self, event: AddItems, row: int, place: int, neighbors: Sequence[int]) -> None:
        """Note what came with row `row` of `event` about the item at `place`."""
        one = self._items[place - self._n_base]
        one.asked = True
        one.vector = None if event.vectors is None else event.vectors[row]
        one.neighbors = tuple(neighbors)
        one.due = 0

    def due(self) -> list[int]:
        """The places (from 0 on) whose vectors are to be made again now; each is given its next time."""
        found = [place for place, one in enumerate(self._items) if one.clicks >= one.due]
        for place in found:
            one = self._items[place]
            one.due = max(1, 2 * one.clicks) if one.clicks else 1
        return found


def evidence_vector(weights: np.ndarray, vectors: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """The direction of the weighted mean of an item's neighbors.

    Parameters
    ----------
    weights : float64[P]
        How much each neighbor says: the sum of 1/distance over both directions. Negative ones count as 0.
    vectors : float32[P, d]
        Theirs: rows of length 1, or 0 where an item has no vector yet.
    given : float32[d], optional
        A direction that came with the item.

    Returns
    -------
    float32[d]
        Of length 1; zero where nothing is known.
    """
    total = np.zeros(vectors.shape[1], dtype=np.float64)
    if given is not None:
        total += GIVEN_WEIGHT * _direction(given.astype(np.float64))
    total += np.maximum(weights, 0) @ vectors.astype(np.float64)
    return _direction(total).astype(np.float32)


def _direction(vector: np.ndarray) -> np.ndarray:
    length = float(np.sqrt(vector @ vector))
    return vector / length if length > 0 else vector
