"""Which items may be recommended: a prepared mask over the catalog, made once and used many times."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mtaw_fast.errors import UsageError
from mtaw_fast.system.cached_property import cached_property


@dataclass(frozen=True, eq=False)
class Filter:
    """A set of allowed items.

    mask: bool[N], True where the item may be recommended; must not be changed afterwards.
    base, later: for a catalog that items are added to: its size without them (0: the filter is for exactly N items),
    and whether those that are added after the filter was made are allowed.
    Thread-safe; the derived forms are made on first use and kept.
    """

    mask: np.ndarray
    base: int = 0
    later: bool = False
    _wider: dict[int, Filter] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, n_items: int, exclude: np.ndarray, allow: np.ndarray | None, base: int = 0) -> Filter:
        """All N items, or only `allow` (int[..] internal ids), without `exclude` (int[..]).

        base: see above; items added later are allowed unless `allow` says which are.
        """
        if allow is None:
            mask = np.ones(n_items, dtype=bool)
        else:
            mask = np.zeros(n_items, dtype=bool)
            mask[allow] = True
        mask[exclude] = False
        return cls(mask, base, base > 0 and allow is None)

    def __and__(self, other: Filter) -> Filter:
        """The items that both allow. Raises UsageError where they belong to different catalogs."""
        other.check(len(self.mask))
        return Filter(self.mask & other.mask, min(self.base, other.base), self.later and other.later)

    def grown(self, n_items: int, base: int, first: int | None = None) -> Filter:
        """The filter for the `n_items` that the catalog of `base` items has now, itself where it fits already.

        first: the base before the catalog took in what it learned, where it did: filters made since fit as well.
        """
        if len(self.mask) == n_items or not (first or base) <= self.base <= base or len(self.mask) > n_items:
            self.check(n_items)
            return self
        wider = self._wider.get(n_items)
        if wider is None:
            mask = np.full(n_items, self.later)
            mask[: len(self.mask)] = self.mask
            wider = Filter(mask, self.base, self.later)
            # Kept: a prepared filter is used again and again, and an index keeps what it made of it.
            self._wider.clear()
            self._wider[n_items] = wider
        return wider

    def check(self, n_items: int) -> None:
        """Raise UsageError unless the filter was made for a catalog of `n_items`."""
        if len(self.mask) != n_items:
            raise UsageError(
                f"the filter is for a catalog of {len(self.mask)} items, this one has {n_items}; "
                "make it with this Recommender's filter()"
            )

    @cached_property
    def ids(self) -> np.ndarray:
        """int32[count]: the allowed internal ids, ascending."""
        return np.flatnonzero(self.mask).astype(np.int32)

    @property
    def count(self) -> int:
        """How many items are allowed."""
        return len(self.ids)

    @cached_property
    def banned(self) -> np.ndarray:
        """bool[N]: the complement of the mask."""
        return ~self.mask

    @cached_property
    def packed(self) -> np.ndarray:
        """uint8[ceil(N / 8)]: the mask as bits, item 0 in the lowest bit of byte 0."""
        return np.packbits(self.mask, bitorder="little")
