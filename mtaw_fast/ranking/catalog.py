"""Items added to a served catalog and removed from it, without a new training.

A `Catalog` is an immutable snapshot: a model's N items, mapped and shared; M added items with the internal ids from N
on; and the set of removed items. Internal ids never change their meaning: a removed item keeps its id and is known as a
click of a session. Every answer equals, to the bit, that of a bundle saved with all N + M items, with the same filter.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mtaw_fast.data.item_ids import IdLookups, ItemIds
from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemTable
from mtaw_fast.items.live import LiveItems
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import SessionMemory
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.model.item_vectors import mean_norm, normalized
from mtaw_fast.model.model import Model
from mtaw_fast.rules import BitmapCache, BoundRules, PlacementTable
from mtaw_fast.system.cached_property import cached_property

_BITMAPS: weakref.WeakKeyDictionary[Model, BitmapCache] = weakref.WeakKeyDictionary()
_INT64 = np.iinfo(np.int64)
_MIN_ADDED = 1024  # items that a memory and trends can take after the first added one


class CatalogIds(IdLookups):
    """`ItemIds` of a model and of the items added to it. Read-only.

    added: plain str or int, the external ids of internal ids N, N + 1, ... If the model's table has the same id (of a
    removed item), the added item is meant. internal_ids: those of all added items by external id; kept without a copy.
    """

    def __init__(self, base: ItemIds, added: tuple[Any, ...], internal_ids: dict[Any, int]) -> None:
        self._base, self._added, self._internal_ids = base, added, internal_ids
        self.table, self.kind = base.table.extended(internal_ids, added), base.kind

    @classmethod
    def of(cls, ids: ItemIds | CatalogIds, more: Sequence[Any]) -> CatalogIds:
        """Return a table with more ids, for each of which `is_id_of` is true."""
        base, added, known = (ids, (), {}) if isinstance(ids, ItemIds) else (ids._base, ids._added, ids._internal_ids)
        # An id that was removed and added again is in `added` twice: the later one counts.
        return cls(base, (*added, *more), known | {item: len(ids) + row for row, item in enumerate(more)})


def is_id_of(kind: str, item: Any) -> bool:
    """Return whether `item` can be an id of a table of this kind, 'int' or 'str'."""
    if kind == "str":
        return isinstance(item, str)
    number = isinstance(item, (int, np.integer)) and not isinstance(item, bool)
    return number and _INT64.min <= int(item) <= _INT64.max


def plain_id(item: Any) -> int | str:
    """Return an id as a plain str or int, also if it is of a subclass or a numpy scalar."""
    return str.__str__(item) if isinstance(item, str) else int(item)


@dataclass(frozen=True, eq=False)
class Catalog:
    """One state of a served catalog. Axes: N items of the model, M added ones, d dimensions.

    added: external ids of the added items, oldest first. embeddings, vectors: float32[M, d], for the added items the
    encoder's input for their clicks, and their vectors in the search (length 1). removed: bool[N + M]. norm: the length
    of the rows of `embeddings`, which is the mean length of the model's own; 0 until an item is added.

    With what was learned while serving: clicks int64[N + M] (None: those of the training), memory (None: the model's
    tables alone) and its learned part `delta`, trends (None: the model's own).

    items: what is known about the items now. all_items: whether items are recommended although they are hidden or not
    available. renewed: the new internal id, by the former one, of ids that were removed and then added again, oldest
    first. unknown: internal ids of added items that `ids` does not know any more, as no session holds them. displays:
    int64[N + M], how often items were shown while they were new, by all processes; None: unknown.
    """

    model: Model
    ids: ItemIds | CatalogIds
    added: tuple[Any, ...]
    embeddings: np.ndarray
    vectors: np.ndarray
    removed: np.ndarray
    norm: float = 0.0
    clicks: np.ndarray | None = None
    memory: SessionMemory | None = None
    delta: MemoryDelta | None = None
    trends: Trends | None = None
    items: ItemTable | None = None
    all_items: bool = False
    renewed: Mapping[int, int] = field(default_factory=dict)
    unknown: frozenset[int] = frozenset()
    displays: np.ndarray | None = None

    @classmethod
    def of(cls, model: Model, *, all_items: bool = False) -> Catalog:
        """Return the catalog of the model's own items.

        all_items: whether those that a log removed, hidden and unavailable ones are recommended too, as in an
        evaluation on past sessions.
        """
        no_vectors = np.empty((0, model.config.model.embedding_dim), dtype=np.float32)
        removed = np.zeros(model.n_items, dtype=bool)
        if model.log_progress is not None and not all_items:
            removed[model.log_progress.unavailable] = True
        return cls(model, model.ids, (), no_vectors, no_vectors, removed, items=model.items, all_items=all_items)

    @classmethod
    def learned(
        cls,
        model: Model,
        internal_ids: dict[Any, int],
        vectors: np.ndarray,
        norm: np.float32,
        removed: np.ndarray,
        clicks: np.ndarray,
        memory: SessionMemory,
        delta: MemoryDelta,
        trends: Trends | None = None,
        items: ItemTable | None = None,
        unknown: Collection[Any] = (),
        displays: np.ndarray | None = None,
    ) -> Catalog:
        """Return the catalog of the model's items and those added while serving.

        internal_ids: N, N + 1, .. by external ids, in this order; kept without a copy. unknown: external ids that count
        as unknown. The other parameters are as the fields; a vector may be zero.
        """
        added, unknown_internal_ids = tuple(internal_ids), frozenset(internal_ids[item] for item in unknown)
        if unknown:
            internal_ids = {item: internal_id for item, internal_id in internal_ids.items() if item not in unknown}
        ids = CatalogIds(model.ids, added, internal_ids) if added else model.ids
        return cls(
            model, ids, added, vectors * norm, vectors, removed, float(norm), clicks, memory, delta, trends, items,
            unknown=unknown_internal_ids, displays=displays,
        )  # fmt: skip

    @property
    def size(self) -> int:
        """N + M: internal ids are 0..size-1."""
        return len(self.removed)

    @cached_property
    def unavailable(self) -> np.ndarray:
        """bool[N + M]: items that are not recommended: removed, hidden by hand, or not available."""
        withheld = None if self.items is None or self.all_items else self.items.withheld(self.ids, self.size)
        return self.removed if withheld is None else self.removed | withheld

    @property
    def roomy_size(self) -> int:
        """How many items a memory and trends are made for. If items were added, there is room for more."""
        return self.size + max(_MIN_ADDED, len(self.added)) if self.added else self.size

    @property
    def is_updated(self) -> bool:
        """Whether it differs from the model's own catalog."""
        return bool(self.added) or self.n_items < self.size

    @cached_property
    def n_items(self) -> int:
        """How many items can be recommended."""
        return self.size - int(np.count_nonzero(self.unavailable))

    @cached_property
    def present(self) -> np.ndarray | None:
        """uint8[ceil((N + M) / 8)]: bits of the items that can be recommended; None: all can."""
        return np.packbits(~self.unavailable, bitorder="little") if self.n_items < self.size else None

    @cached_property
    def new_items(self) -> np.ndarray:
        """int32[..]: internal ids of the items that came since the training and may be recommended, ascending."""
        is_new = np.arange(self.size) >= self.model.n_items
        if self.model.log_progress is not None:
            is_new[self.model.log_progress.untrained] = True
        return np.flatnonzero(is_new & ~self.unavailable).astype(np.int32)

    @property
    def scale(self) -> float:
        """The factor on the cosine in a score."""
        return self.model.config.model.scale

    @cached_property
    def most_clicked(self) -> np.ndarray:
        """int32[N + M]: all items, most clicks first, equal ones in id order.

        With trends, the clicks are those of the model: the catalog's may be older than its trends.
        """
        if self.clicks is not None and self.trends is None:
            return np.argsort(-self.clicks, kind="stable").astype(np.int32)
        if not self.added:
            return self.model.most_clicked
        return np.concatenate([self.model.most_clicked, np.arange(self.model.n_items, self.size, dtype=np.int32)])

    @cached_property
    def popularity(self) -> np.ndarray:
        """int64[N + M] clicks in the training sessions, and while serving if they are counted."""
        if self.clicks is not None:
            return self.clicks
        if not self.added:
            return self.model.popularity
        return np.concatenate([self.model.popularity, np.zeros(len(self.added), dtype=np.int64)])

    @cached_property
    def placements(self) -> PlacementTable:
        """The rule sets of the placements."""
        return PlacementTable(self.items)

    @cached_property
    def bound_rules(self) -> BoundRules:
        """Rules bound to this state. Their bitmaps are shared by all states of a model's catalog."""
        cache = _BITMAPS.setdefault(self.model, BitmapCache())
        if self.items is not None:
            cache.drop_changed(self.items)
        return BoundRules(self.items, self.ids.table, self.size, self.present, cache)

    def clicks_of(self, session: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
        """Return a session's known clicks int32[m] and its unknown ones as external ids."""
        internal_ids = self.ids.lookup(session)
        known = internal_ids >= 0
        if known.all():
            return internal_ids, []
        return internal_ids[known], [click for click, is_known in zip(session, known, strict=True) if not is_known]

    def vector(self, internal_id: int) -> np.ndarray:
        """Return float32[1, d]: the row of an internal id in the search."""
        n_base = self.model.n_items
        rows, row = (
            (self.model.item_vectors, internal_id) if internal_id < n_base else (self.vectors, internal_id - n_base)
        )
        return rows[row : row + 1]

    def returning(self, items: Sequence[Any]) -> np.ndarray:
        """Return bool[len(items)]: removed items of the model, which come back with all that its memory learned."""
        if self.model.memory is None:
            return np.zeros(len(items), dtype=bool)
        internal_ids = self.ids.lookup(items)
        in_model = (internal_ids >= 0) & (internal_ids < self.model.n_items)
        return in_model & self.removed[np.where(in_model, internal_ids, 0)]

    def with_returned(self, items: Sequence[Any]) -> Catalog:
        """Return the next state, in which removed items of the model are recommended again."""
        removed = self.removed.copy()
        removed[self.ids.lookup(items)] = False
        return replace(self, removed=removed)

    def with_items(
        self, items: Sequence[Any], vectors: np.ndarray | None, neighbors: Sequence[Sequence[Any]] | None
    ) -> Catalog:
        """Return the next state, with `items` added; see `Recommender.add_items`."""
        self.check_new(items)
        items = [plain_id(item) for item in items]
        if (vectors is None) == (neighbors is None):
            raise DataError("add_items takes either vectors or neighbors, one for each item; pass one of the two")
        raw = self._means(items, neighbors) if neighbors is not None else self._checked(items, vectors)
        norm = self.norm or mean_norm(self.model.weights["item_embedding"])
        embeddings = normalized(raw) * np.float32(norm)
        ids = CatalogIds.of(self.ids, items)
        id_pairs = zip(self.ids.lookup(items).tolist(), range(self.size, len(ids)), strict=True)
        renewed = {**self.renewed, **{former: internal_id for former, internal_id in id_pairs if former >= 0}}
        return replace(
            self,
            norm=norm,
            ids=ids,
            items=LiveItems(self.items).table(ids.lookup, len(ids), renewed),
            added=(*self.added, *items),
            embeddings=np.concatenate([self.embeddings, embeddings]),
            vectors=np.concatenate([self.vectors, normalized(embeddings)]),
            removed=np.concatenate([self.removed, np.zeros(len(items), dtype=bool)]),
            renewed=renewed,
        )

    def without_items(self, items: Sequence[Any]) -> Catalog:
        """Return the next state, with `items` removed; see `Recommender.remove_items`."""
        internal_ids = self.ids.lookup(items)
        for item, internal_id in zip(items, internal_ids.tolist(), strict=True):
            if internal_id < 0 or self.removed[internal_id]:
                raise DataError(f"item {item!r} is not in the catalog, so it cannot be removed; leave it out")
        removed = self.removed.copy()
        removed[internal_ids] = True
        return replace(self, removed=removed)

    def with_table(self, live: LiveItems) -> Catalog:
        """Return the next state, with the item table that `live` has now."""
        return replace(self, items=live.table(self.ids.lookup, self.size, self.renewed))

    def check_new(self, items: Sequence[Any]) -> None:
        """Raise DataError if an id is in the catalog, of another type, or listed twice."""
        seen = set()
        for item, internal_id in zip(items, self.ids.lookup(items).tolist(), strict=True):
            if not is_id_of(self.ids.kind, item):
                raise DataError(f"item {item!r} cannot be added: this catalog's item ids are {self.ids.kind}")
            if internal_id >= 0 and not self.removed[internal_id]:
                raise DataError(f"item {item!r} is already in the catalog; remove it first to give it another vector")
            if item in seen:
                raise DataError(f"item {item!r} is listed twice; list it once")
            seen.add(item)

    def _checked(self, items: Sequence[Any], vectors: Any) -> np.ndarray:
        """Return the given vectors as float32[M, d]. Raises DataError unless they are finite and not zero."""
        d = self.model.config.model.embedding_dim
        array = np.asarray(vectors)
        if array.shape != (len(items), d) or array.dtype.kind != "f":
            raise DataError(
                f"vectors must be float[{len(items)}, {d}], a row for each item, not {array.dtype}{list(array.shape)}"
            )
        with np.errstate(over="ignore"):  # an overflow of float32 is found below
            array = array.astype(np.float32)
        for item, row in zip(items, array, strict=True):
            if not np.isfinite(row).all() or not row.any():
                raise DataError(f"the vector of item {item!r} is zero or not finite; leave the item out")
        return array

    def _means(self, items: Sequence[Any], neighbors: Sequence[Sequence[Any]]) -> np.ndarray:
        """Return float32[M, d]: the mean of each item's neighbors in the search's rows."""
        if len(neighbors) != len(items):
            raise DataError(
                f"there are neighbors for {len(neighbors)} items, not for {len(items)}; give one list for each"
            )
        means = np.empty((len(items), self.model.config.model.embedding_dim), dtype=np.float32)
        for row, (item, ids) in enumerate(zip(items, neighbors, strict=True)):
            internal_ids = self.ids.lookup(ids)
            if len(internal_ids) == 0:
                raise DataError(f"item {item!r} has no neighbors; name at least one")
            if internal_ids.min() < 0:
                unknown = ids[int(np.argmin(internal_ids))]
                raise DataError(f"the catalog does not know {unknown!r}, a neighbor of item {item!r}; leave it out")
            vectors = np.concatenate([self.vector(neighbor) for neighbor in internal_ids.tolist()]).astype(np.float64)
            means[row] = vectors.mean(axis=0)
            if not means[row].any():
                raise DataError(f"the vectors of the neighbors of item {item!r} cancel out; name others")
        return means
