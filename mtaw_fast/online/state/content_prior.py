"""What the attributes of a new item say about it: a vector, and neighbors for the cold-start prior.

It depends on the model and on the log alone, so that every reader of a log decides the same. Axes: N items of the
model, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.model.model import Model

NEIGHBORS = 10
MAX_LOAD = 10  # new items that one neighbor starts: a whole catalog of new rows must not fill its rankings
_MIN_COSINE = 0.3  # of a neighbor's vector with that of the attributes
_HALF_LIFE = 20_000  # clicks after which a click counts half, for which neighbors are clicked now
_MAX_WEIGHT = 1e200


class ContentPrior:
    """Vectors and neighbors of new items by their attributes, if the model has content vectors. Not thread-safe."""

    def __init__(self, model: Model) -> None:
        self._content, self._vectors = model.content, model.item_vectors
        self._recent, self._weight = np.zeros(model.n_items), 1.0
        self._waiting: dict[int | str, int] = {}
        self._waiting_of: ItemTable | None = None
        if self._content is not None:
            _ = self._content.embed  # it may be missing here, which loading must report
            self.count(model.sessions.items[-10 * _HALF_LIFE :])

    @property
    def is_known(self) -> bool:
        """Whether the model has content vectors."""
        return self._content is not None

    def count(self, internal_ids: np.ndarray) -> None:
        """Count clicks on internal ids int32[..], in order."""
        if self._content is None or not len(internal_ids):
            return
        weights = self._weight * np.exp2(np.arange(1, len(internal_ids) + 1) / _HALF_LIFE)
        inside = internal_ids < len(self._recent)
        np.add.at(self._recent, internal_ids[inside], weights[inside])
        self._weight = float(weights[-1])
        if self._weight > _MAX_WEIGHT:
            self._recent /= self._weight
            self._weight = 1.0

    def vector(self, item: int | str, internal_id: int, table: ItemTable | None) -> np.ndarray | None:
        """Return the vector float32[d] of an item with this internal id; None if its attributes say nothing."""
        if self._content is None or table is None:
            return None
        if internal_id < table.n_rows:
            source, row = table, internal_id
        else:
            source, row = waiting_rows(table), self._waiting_rows_of(table).get(item, -1)
        if row < 0:
            return None
        vector = self._content.vectors(source, np.array([row]))[0]
        return vector if vector.any() else None

    def of_waiting(self, table: ItemTable, items: Iterable[int | str]) -> dict[int | str, np.ndarray]:
        """Return the vectors float32[d] of those items whose rows wait, and say more than numbers (`describes`)."""
        if self._content is None:
            return {}
        row_of = self._waiting_rows_of(table)
        waiting = [item for item in items if item in row_of]
        rows = np.array([row_of[item] for item in waiting], dtype=np.int64)
        if not waiting:
            return {}
        source = waiting_rows(table)
        described, vectors = self._content.describes(source, rows), self._content.vectors(source, rows)
        return {item: vectors[row] for row, item in enumerate(waiting) if described[row] and vectors[row].any()}

    def _waiting_rows_of(self, table: ItemTable) -> dict[int | str, int]:
        if self._waiting_of is None or self._waiting_of.waiting is not table.waiting:
            self._waiting = {item: row for row, item in enumerate(table.waiting.ids)}
            self._waiting_of = table
        return self._waiting

    def neighbors(self, vector: np.ndarray, load: np.ndarray) -> list[int]:
        """Return the items of the model that are nearest to a vector, among those that are clicked now.

        load: int64[N], of how many new items each is a neighbor already; it counts the result.
        """
        cosines = self._vectors @ vector
        may_start = (cosines >= _MIN_COSINE) & (load < MAX_LOAD)
        scores = np.where(may_start, cosines, 0) * np.log1p(self._recent / self._weight)
        some = np.flatnonzero(scores > 0)
        best = some[np.argsort(-scores[some], kind="stable")[:NEIGHBORS]]
        load[best] += 1
        chosen: list[int] = best.tolist()
        return chosen


def waiting_rows(table: ItemTable) -> ItemTable:
    """Return the rows of ids that the catalog does not know as a table of their own."""
    return ItemTable(len(table.waiting), table.waiting.columns, table.availability)
